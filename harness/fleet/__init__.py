"""The views of a whole cluster's nodes of one recording, computed in one go and spread over processes and machines."""
