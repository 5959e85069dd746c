"""Benchmarks: workloads, one adapter an engine, and a harness in which the engines take turns.

``kvwasi bench`` runs a part of them; the checkout's ``bench/`` adds what needs its sources.
"""
