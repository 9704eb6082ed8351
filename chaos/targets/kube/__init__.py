"""A real cluster as a target, through its API, and never by accident.

settings   what the experiment's `kube:` section and the command line say      (pure)
scene      the Service, its pods and nodes, as they are                        (pure; read by `api`)
calls      what each operation of a plan asks of the API, and what cannot be   (pure)
guard      allow-list and blast radius                                         (pure)
prepare    all of these before anything happens: the dry run
undo       what was, written down before it is changed; put back on any exit, or by `harness chaos heal`
target     does the operations      watch   records the run      stage   both and the load, for a session
"""
