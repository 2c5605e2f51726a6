"""What the tests stand on: real daemons in throw-away directories, a client that follows the protocol, a history checker."""
