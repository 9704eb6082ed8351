"""A real cluster as a target, through its API, with protection against accidental use.

settings   the experiment's `kube:` section and the command line               (pure)
scene      the present Service, its pods and nodes                             (pure; read by `api`)
calls      the API requests of each operation, and unsupported operations      (pure)
guard      allow-list and blast radius                                         (pure)
prepare    all of these before anything happens: the dry run
undo       state saved before each change; restored on any exit, or by `harness chaos heal`
target     carries out operations   watch   records the run      stage   both and the load, for a session
"""
