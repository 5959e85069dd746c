"""The durability suite: every state that a power cut may leave, opened and compared with what was promised.

A workload runs on an engine while everything it asks of the storage is written down (:mod:`.recorder`
for this package's store, :mod:`.preload` for others). From that :mod:`.disk` builds what the storage may
hold after a power cut at any moment, :mod:`.states` chooses among these, :mod:`.examine` opens each, in
processes of its own (:mod:`.pool`), and compares it with the history of the workload. ``kvwasi
crashtest`` is its command.

Beside power cuts: :mod:`.faults` fails each storage call in turn, :mod:`.damage` damages files, with
:mod:`.craft` under right checksums, :mod:`.situations` puts pipes, links and rivals in their place. What is
to be cut is written down in :mod:`.workloads`, which says how to add to it; :mod:`.moments` counts which
dangerous moments that crosses.
"""
