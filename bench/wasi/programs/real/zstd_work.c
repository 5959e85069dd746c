/* zstd at file work: compress argv[1] to argv[2] in a stream of small pieces, decompress that to argv[3]. */
#include <stdio.h>
#include <stdlib.h>

#include "zstd.h"

#define PIECE 4096

static char in_piece[PIECE];
static char out_piece[PIECE];

static FILE *opened(const char *path, const char *mode)
{
    FILE *file = fopen(path, mode);
    if (!file) {
        perror(path);
        exit(1);
    }
    setvbuf(file, NULL, _IONBF, 0); /* every piece is a call */
    return file;
}

static void put(FILE *to, size_t length)
{
    if (fwrite(out_piece, 1, length, to) != length) {
        perror("write");
        exit(1);
    }
}

static unsigned long long compress_file(const char *from_path, const char *to_path)
{
    FILE *from = opened(from_path, "rb");
    FILE *to = opened(to_path, "wb");
    ZSTD_CCtx *context = ZSTD_createCCtx();
    unsigned long long total = 0;
    for (int ended = 0; !ended;) {
        ZSTD_inBuffer in = {in_piece, fread(in_piece, 1, PIECE, from), 0};
        ended = in.size < PIECE;
        for (size_t left = 1; ended ? left > 0 : in.pos < in.size;) {
            ZSTD_outBuffer out = {out_piece, PIECE, 0};
            left = ZSTD_compressStream2(context, &out, &in, ended ? ZSTD_e_end : ZSTD_e_continue);
            if (ZSTD_isError(left))
                exit(1);
            put(to, out.pos);
            total += out.pos;
        }
    }
    ZSTD_freeCCtx(context);
    fclose(from);
    fclose(to);
    return total;
}

static unsigned long long decompress_file(const char *from_path, const char *to_path)
{
    FILE *from = opened(from_path, "rb");
    FILE *to = opened(to_path, "wb");
    ZSTD_DCtx *context = ZSTD_createDCtx();
    unsigned long long total = 0;
    for (size_t got; (got = fread(in_piece, 1, PIECE, from)) > 0;) {
        ZSTD_inBuffer in = {in_piece, got, 0};
        while (in.pos < in.size) {
            ZSTD_outBuffer out = {out_piece, PIECE, 0};
            if (ZSTD_isError(ZSTD_decompressStream(context, &out, &in)))
                exit(1);
            put(to, out.pos);
            total += out.pos;
        }
    }
    ZSTD_freeDCtx(context);
    fclose(from);
    fclose(to);
    return total;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    printf("compressed %llu\n", compress_file(argv[1], argv[2]));
    printf("decompressed %llu\n", decompress_file(argv[2], argv[3]));
    return 0;
}
