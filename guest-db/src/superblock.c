#include "checksum.h"
#include "file.h"

static uint64_t sum_of(const uint8_t *slot) {
    return kv_xxh64(slot + KV_SB_MAGIC, KV_SUPERBLOCK_BYTES - KV_SB_MAGIC, 0);
}

static void encode_root(const kv_root *root, uint8_t *to) {
    kv_store32(to, root->node);
    kv_store32(to + KV_SB_ROOT_HEIGHT - KV_SB_ROOT_PAGE, root->height);
    kv_store64(to + KV_SB_ROOT_COUNT - KV_SB_ROOT_PAGE, root->count);
}

static kv_root decode_root(const uint8_t *from) {
    return (kv_root){.node = kv_load32(from),
                     .height = kv_load32(from + KV_SB_ROOT_HEIGHT - KV_SB_ROOT_PAGE),
                     .count = kv_load64(from + KV_SB_ROOT_COUNT - KV_SB_ROOT_PAGE)};
}

static void encode(const kv_superblock *super, uint8_t *to) {
    memset(to, 0, KV_SUPERBLOCK_BYTES);
    memcpy(to + KV_SB_MAGIC, KV_MAGIC, 8);
    kv_store32(to + KV_SB_VERSION, super->version);
    kv_store32(to + KV_SB_SECTOR_BYTES, super->sector_bytes);
    kv_store64(to + KV_SB_COMPATIBLE, super->compatible);
    kv_store64(to + KV_SB_READ_COMPATIBLE, super->read_compatible);
    kv_store64(to + KV_SB_INCOMPATIBLE, super->incompatible);
    kv_store64(to + KV_SB_SEQUENCE, super->sequence);
    kv_store64(to + KV_SB_DATABASE_ID, super->database_id);
    kv_store64(to + KV_SB_REPLAY, super->replay);
    kv_store64(to + KV_SB_LOG_SECTOR, super->log_sector);
    kv_store32(to + KV_SB_CHAIN, super->chain);
    kv_store32(to + KV_SB_INSTALLED, super->installed);
    kv_store64(to + KV_SB_GENERATION, super->generation);
    encode_root(&super->root, to + KV_SB_ROOT_PAGE);
    encode_root(&super->catalog, to + KV_SB_CATALOG_PAGE);
    kv_store32(to + KV_SB_MAP_PAGE, super->map_page);
    kv_store32(to + KV_SB_MAP_PAGES, super->map_pages);
    kv_store64(to + KV_SB_MAP_SECTORS, super->map_sectors);
    kv_store64(to + KV_SB_DURABLE, super->durable);
    kv_store64(to + KV_SB_COMMIT, super->commit);
    kv_store64(to + KV_SB_FILE_BYTES, super->file_bytes);
    kv_store64(to + KV_SB_SUM, sum_of(to));
}

static bool decode(kv_superblock *super, const uint8_t *from) {
    if (memcmp(from + KV_SB_MAGIC, KV_MAGIC, 8) != 0) return false;
    super->version = kv_load32(from + KV_SB_VERSION);
    bool first = super->version == 1 && kv_load64(from + KV_SB_SUM) == kv_xxh64(from + KV_SB_MAGIC, 120, 0); /* it was shorter */
    if (!first && kv_load64(from + KV_SB_SUM) != sum_of(from)) return false;
    super->sector_bytes = kv_load32(from + KV_SB_SECTOR_BYTES);
    super->compatible = kv_load64(from + KV_SB_COMPATIBLE);
    super->read_compatible = kv_load64(from + KV_SB_READ_COMPATIBLE);
    super->incompatible = kv_load64(from + KV_SB_INCOMPATIBLE);
    super->sequence = kv_load64(from + KV_SB_SEQUENCE);
    super->database_id = kv_load64(from + KV_SB_DATABASE_ID);
    super->replay = kv_load64(from + KV_SB_REPLAY);
    super->log_sector = kv_load64(from + KV_SB_LOG_SECTOR);
    super->chain = kv_load32(from + KV_SB_CHAIN);
    super->installed = kv_load32(from + KV_SB_INSTALLED);
    super->generation = kv_load64(from + KV_SB_GENERATION);
    super->root = decode_root(from + KV_SB_ROOT_PAGE);
    super->catalog = decode_root(from + KV_SB_CATALOG_PAGE);
    super->map_page = kv_load32(from + KV_SB_MAP_PAGE);
    super->map_pages = kv_load32(from + KV_SB_MAP_PAGES);
    super->map_sectors = kv_load64(from + KV_SB_MAP_SECTORS);
    super->durable = kv_load64(from + KV_SB_DURABLE);
    super->commit = kv_load64(from + KV_SB_COMMIT);
    super->file_bytes = kv_load64(from + KV_SB_FILE_BYTES);
    return true;
}

/* Do the numbers keep to their bounds? The size of sectors is taken from `super`. */
static bool is_sane(const kv_superblock *super) {
    uint32_t bytes = super->sector_bytes;
    if (bytes < KV_SECTOR_BYTES_MIN || bytes > KV_SECTOR_BYTES_MAX || (bytes & (bytes - 1)) != 0) return false;
    uint64_t generation = super->replay / bytes, offset = super->replay % bytes;
    return generation >= 1 && generation <= super->generation && offset >= KV_SECTOR_DATA && offset % 8 == 0 &&
           super->generation < UINT64_MAX / KV_SECTOR_BYTES_MAX && super->sequence >= 1 &&
           super->sequence < UINT64_MAX / 2 && super->log_sector < UINT32_MAX && super->map_sectors < UINT32_MAX &&
           super->durable >= super->replay && kv_root_is_sane(&super->root) && kv_root_is_sane(&super->catalog);
}

/* May this version read (and, unless read-only, write) such a database? */
static kv_status accept(kv_file *file, const kv_superblock *super) {
    if (super->version != KV_FORMAT_VERSION || (super->incompatible & ~(uint64_t)KV_KNOWN_INCOMPATIBLE) != 0)
        return KV_VERSION_UNSUPPORTED;
    if (!file->read_only && (super->read_compatible & ~(uint64_t)KV_KNOWN_READ_COMPATIBLE) != 0)
        return KV_VERSION_UNSUPPORTED;
    if (!is_sane(super)) return kv_file_fail(file, KV_CORRUPT, KV_DETAIL_SUPERBLOCK, 0);
    kv_file_set_sector_bytes(file, super->sector_bytes);
    return KV_OK;
}

static kv_status read_slots(kv_file *file, kv_superblock found[2], bool valid[2], bool *magic) {
    *magic = false;
    for (uint32_t slot = 0; slot < 2; slot++) {
        uint8_t bytes[KV_SUPERBLOCK_BYTES] = {0};
        uint64_t got;
        kv_status status = kv_file_read_some(file, slot * KV_SUPERBLOCK_SLOT, bytes, sizeof bytes, &got);
        if (status != KV_OK) return status;
        *magic = *magic || memcmp(bytes + KV_SB_MAGIC, KV_MAGIC, 8) == 0;
        valid[slot] = got == sizeof bytes && decode(&found[slot], bytes);
    }
    return KV_OK;
}

kv_status kv_superblock_read(kv_file *file) {
    kv_superblock found[2];
    bool valid[2], magic;
    kv_status status = read_slots(file, found, valid, &magic);
    if (status != KV_OK) return status;
    if (!valid[0] && !valid[1])
        return magic ? kv_file_fail(file, KV_CORRUPT, KV_DETAIL_SUPERBLOCK, 0) : KV_NOT_A_DATABASE;
    bool second = valid[1] && (!valid[0] || found[1].sequence > found[0].sequence);
    status = accept(file, &found[second]);
    if (status != KV_OK) return status;
    file->super = found[second];
    file->slot_damaged = !valid[0] || !valid[1];
    file->other = (kv_superblock){.sequence = 0};
    const kv_superblock *other = &found[!second];
    if (valid[!second] && other->version == KV_FORMAT_VERSION && is_sane(other) &&
        other->sector_bytes == file->sector_bytes && other->database_id == file->super.database_id)
        file->other = *other;
    file->next_generation = file->super.generation;
    if (file->written_end < file->super.file_bytes) file->written_end = file->super.file_bytes;
    return KV_OK;
}

kv_status kv_superblock_newest(kv_file *file, uint64_t *sequence) {
    kv_superblock found[2];
    bool valid[2], magic;
    kv_status status = read_slots(file, found, valid, &magic);
    *sequence = 0;
    for (uint32_t slot = 0; slot < 2 && status == KV_OK; slot++)
        if (valid[slot] && found[slot].sequence > *sequence) *sequence = found[slot].sequence;
    return status;
}

kv_status kv_superblock_write(kv_file *file) {
    uint8_t bytes[KV_SUPERBLOCK_BYTES];
    kv_superblock next = file->super;
    next.sequence++;
    next.incompatible |= KV_FEATURE_SKIP;
    encode(&next, bytes);
    kv_status status =
        kv_file_write(file, (next.sequence & 1) * KV_SUPERBLOCK_SLOT, bytes, KV_SUPERBLOCK_BYTES, NULL);
    if (status != KV_OK) return status;
    file->super = next;
    return status;
}
