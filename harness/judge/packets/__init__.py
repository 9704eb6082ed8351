"""Real packets through a real kernel: namespaces around a node, and a judge that observes all of them.

wire (bytes) <- world (namespaces, sockets) <- attempts <- judge (replay: questions -> attempts -> verdicts)
                                               <- lookout (a process that connects while rules change)
"""
