"""The part that runs inside the guest: imports only the standard library and itself.

Its records are named tuples, because `dataclasses` takes longer to load than the rest of the agent.
"""
