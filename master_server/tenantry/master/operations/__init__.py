"""What the Master does: one module a noun, one function or method a use case.

Everything that writes runs as work of the one `Committer`, which gathers what is pending into one transaction. Work is a plain
function of the transaction; it runs in the committer's thread. What the links need in memory lives on the event loop.
"""
