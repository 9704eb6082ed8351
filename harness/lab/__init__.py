"""The lab: a small cluster's dataplane in network namespaces, with a control plane that behaves like the real one.

    topology (the plan, pure) -> network (namespaces, links, routes)
    supervisor: API (harness.apiserver) <- kubelets (pods, probes) <- controllers (replicas, slices, nodes)
                node namespaces, each with a proxy-engine programming that namespace's kernel
    control (a socket in the lab's folder) <- `harness lab`, chaos

Everything lives in one user, network, mount and PID namespace whose first process is the supervisor: when it
ends, however it ends, the kernel removes the rest.
"""
