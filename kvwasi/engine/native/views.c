/* Values where they lie: memory that maps the database's file, shared by all views of one part of it.
 *
 * The GIL guards the regions and their counts; what asks the host or the guest has the session's lock as well. */
#include <stdlib.h>
#include <sys/mman.h>

#include "verbs.h"

/* Address space costs nothing, and a region that is there already no fault: one for each so many bytes of the file. */
#define REGION_BYTES (1ull << 30)

struct kve_region {
    kve_region *next;
    uint64_t files; /* as the session's when it was made */
    int32_t fd;
    uint64_t start, length; /* in the file */
    uint8_t *base;
    uint32_t views;
};

static bool covers(const kve_region *region, const kve_session *session, const kv_value_ref *ref)
{
    return region->files == session->files && region->fd == ref->fd && region->start <= ref->offset &&
           ref->offset + ref->length <= region->start + region->length;
}

static kve_region *map_region(kve_session *session, const kv_value_ref *ref)
{
    kve_region *region = malloc(sizeof *region);
    if (region == NULL) return NULL;
    uint64_t start = ref->offset & ~(REGION_BYTES - 1), end = ref->offset + ref->length;
    uint64_t length = end - start <= REGION_BYTES ? REGION_BYTES : (end - start + 4095) & ~4095ull;
    void *base;
    if (session->api->map(session->host, (uint32_t)ref->fd, start, (size_t)length, &base) != 0) {
        free(region);
        return NULL;
    }
    *region = (kve_region){.next = session->regions, .files = session->files, .fd = ref->fd, .start = start,
                           .length = length, .base = base};
    session->regions = region;
    return region;
}

const uint8_t *kve_region_take(kve_session *session, const kv_value_ref *ref, kve_region **out)
{
    kve_region *region = session->regions;
    while (region != NULL && !covers(region, session, ref)) region = region->next;
    if (region == NULL) region = map_region(session, ref);
    *out = region;
    if (region == NULL) return NULL;
    region->views++;
    return region->base + (ref->offset - region->start);
}

static void give_up(kve_region *region)
{
    munmap(region->base, (size_t)region->length);
    free(region);
}

static void unlink_region(kve_session *session, const kve_region *region)
{
    kve_region **at = &session->regions;
    while (*at != NULL && *at != region) at = &(*at)->next;
    if (*at != NULL) *at = region->next;
}

void kve_region_release(kve_session *session, kve_region *region)
{
    if (--region->views > 0 || (session->open && region->files == session->files)) return; /* it stays for the next */
    unlink_region(session, region);
    give_up(region);
}

void kve_regions_trim(kve_session *session, bool all)
{
    for (kve_region **at = &session->regions, *region; (region = *at) != NULL;) {
        if (region->views > 0 || (!all && region->files == session->files)) {
            at = &region->next;
            continue;
        }
        *at = region->next;
        give_up(region);
    }
}
