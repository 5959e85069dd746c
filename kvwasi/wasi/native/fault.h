/* Copies between a file's window and ordinary memory that survive SIGBUS: the page lies past the end of a
 * file that another process cut, or the disk failed. */
#ifndef KVW_FAULT_H
#define KVW_FAULT_H

#include <stdbool.h>
#include <stddef.h>

/* Make the process's SIGBUS handler ours, with the previous one behind it. Before the first guarded copy, and
 * again whenever somebody may have put another in its place. False: the OS refused. */
bool kvw_fault_install(void);

/* Copy `length` bytes, of which one side lies within the window [`window`, `window` + `window_length`).
 * False: a page of the window could not be had; some of the bytes may have been copied. */
bool kvw_fault_copy(void *to, const void *from, size_t length, const void *window, size_t window_length);

#endif
