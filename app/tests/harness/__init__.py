"""What the tests stand on: real daemons in throw-away directories, a client of the protocol, a history checker."""
