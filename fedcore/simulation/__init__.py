"""A fleet of virtual devices on a virtual clock: the shell around the code that real fleets run."""
