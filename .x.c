#include "guest-db/include/kv_guest.h"
