"""What a status says: conditions by the truth table, and the facts beside them.

Pure: the time is an argument, and used only where a condition's status changes.
"""
