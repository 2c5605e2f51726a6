"""Long runs against the application over its public protocol: random faults under load, and endurance.

They are programs (``make faults``, ``make soak``) of which the tests run a short piece. They know docs/protocol.md and the
daemons, and nothing of the application's code.
"""
