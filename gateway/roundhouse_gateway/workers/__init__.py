"""Several processes of one gateway on one port: what they share, and who looks after them.

`supervisor` starts them and hands them connections, `member` is one of them as it sees the others. What has
to be exact over all of them lies in memory that they share: the limits of keys in `key_table`, metrics and
load in an `arena` of each. With one worker nothing of this is used.
"""
