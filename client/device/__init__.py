"""One device: it joins, fetches the base model, carries out assignments and keeps its state folder.

The rules of the protocol are the device machine of `fedcore.core.rounds.device`; this room does what it says.
"""
