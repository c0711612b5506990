// SPDX-License-Identifier: GPL-2.0-only
/*
 * A mount of ecryptfs at "mnt" over "lower", in a fresh directory below the current one, with a key of its own. Needs
 * no ecryptfs-utils. As root, in a directory on ext4. A page's program includes it:
 *
 *	cc -Wall -o finding finding.c && ./finding
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIGNATURE "0011223344556677"

/* struct ecryptfs_auth_tok of include/linux/ecryptfs.h, with a password in it. */
struct token {
	uint16_t version, type;
	uint32_t flags, session_flags, encrypted_bytes, decrypted_bytes;
	uint8_t encrypted[512], decrypted[64], reserved[32];
	uint32_t password_bytes, hash, iterations, key_bytes, password_flags;
	uint8_t key[64], signature[17], salt[8], padding[3];
};

/* The one of "mnt". */
static struct token token = {
	.version = 4, .key_bytes = 64, .password_flags = 2, .key = { [0 ... 63] = 0x11 }, .signature = SIGNATURE,
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static inline const char *result(int good)
{
	return good ? "ok" : strerror(errno);
}

static void mount_ecryptfs(const char *more)
{
	char options[4096];

	snprintf(options, sizeof options, "ecryptfs_sig=%s,ecryptfs_cipher=aes,ecryptfs_key_bytes=16%s", SIGNATURE, more);
	if (mount("lower", "mnt", "ecryptfs", 0, options))
		die("mount");
}

static inline void mount_again(const char *more)
{
	if (umount("mnt"))
		die("umount");
	mount_ecryptfs(more);
}

/* In place of the one that is there. */
static void put_key(void)
{
	if (syscall(SYS_add_key, "user", SIGNATURE, &token, sizeof token, -3 /* KEY_SPEC_SESSION_KEYRING */) < 0)
		die("key");
}

/* The key is in a session keyring of this process and its children. */
static void begin(const char *more, const void *encrypted_key, size_t length)
{
	char dir[] = "ecryptfs-XXXXXX";

	memcpy(token.encrypted, encrypted_key, token.encrypted_bytes = length);
	if (syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, NULL) < 0)
		die("keyring");
	put_key();
	if (!mkdtemp(dir) || chdir(dir) || mkdir("lower", 0755) || mkdir("mnt", 0755))
		die(dir);
	mount_ecryptfs(more);
}

/* No file may get longer; a program that tries gets EFBIG instead of a signal. */
static inline void limit_files(rlim_t bytes)
{
	struct rlimit limit = { bytes, RLIM_INFINITY };

	signal(SIGXFSZ, SIG_IGN);
	if (setrlimit(RLIMIT_FSIZE, &limit))
		die("setrlimit");
}
