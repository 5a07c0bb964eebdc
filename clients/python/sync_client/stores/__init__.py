"""Where rows and pending operations are kept: `port` is the contract, the other modules are named by technology."""
