# A table by its name: in a store, a transaction or a snapshot.


cdef int _bind(Reads table, Reads of, bytes name, Reads like) except -1:
    """Let `table` read, and write, where `of` does. `like`: another handle of it, whose number it is to have."""
    table._session = of._session
    table.c = of.c
    table.view = of.view
    table.transaction = of.transaction
    table.life = of.life
    table.flags = of.flags
    table.of = of
    table.name = name
    table.table = NO_TABLE if like is None else like.table
    table.seen = of.undone
    table.enter()  # finds it, if it is there
    kve_unlock(table.c)
    return 0


@cython.no_gc_clear
cdef class TableVerbs(Verbs):
    """The verbs of a table of a store or a transaction. It is made by its first write."""

    def __cinit__(self, Verbs of not None, bytes name not None, *, create=True, TableVerbs like=None):
        _bind(self, of, name, like)

    def put_many(self, pairs, /):
        """Store (key, value) pairs, or the items of a mapping, in their order; in a transaction only."""
        if self.transaction == 0:
            raise _status.errors.TransactionError("no transaction is open")
        _put_all(self, pairs)
