# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=False
"""The engine for Python: sessions, the verbs of a store and a transaction, and iterators, as extension types.

The pieces are included into one module, so that they share the C layer's process-wide state.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.list cimport PyList_CheckExact
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_Import
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

import os

from kvwasi.engine import status as _status

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *) except NULL
    unsigned long PyThread_get_thread_ident() nogil
    # without Cython's reference counting: for objects made under the lock, where nothing may be raised
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *, Py_ssize_t)
    char *raw_bytes "PyBytes_AS_STRING"(PyObject *)
    void PyErr_Clear()

cdef extern from *:
    """
    #define kvw_as_object(pointer) ((PyObject *)(pointer))
    """

cdef const kvw_api *_api = NULL

include "module.pxi"
include "session.pxi"
include "reads.pxi"
include "writes.pxi"
include "transaction.pxi"
include "tables.pxi"
include "snapshot.pxi"
include "views.pxi"
include "batch.pxi"
include "iterator.pxi"
include "copy.pxi"
include "repair.pxi"
