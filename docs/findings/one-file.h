// SPDX-License-Identifier: GPL-2.0-only
/*
 * The smallest FUSE server that shows what these pages are about: one directory with one file, "f", whose I/O goes to
 * a backing file. Linux 6.9 or later, as root. Each page's program includes it:
 *
 *	cc -Wall -o finding finding.c && ./finding
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/types.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* include/uapi/linux/fuse.h of 6.9, as far as it is needed: distributions ship older ones. */
struct in_header { __u32 len, opcode; __u64 unique, nodeid; __u32 uid, gid, pid, extlen; };
struct out_header { __u32 len; __s32 error; __u64 unique; };
struct attr { __u64 ino, size, blocks, atime, mtime, ctime; __u32 nsec[3], mode, nlink, uid, gid, rdev, blksize, flags; };
struct entry { __u64 nodeid, generation, entry_valid, attr_valid; __u32 entry_nsec, attr_nsec; struct attr attr; };
struct attr_out { __u64 valid; __u32 nsec, dummy; struct attr attr; };
struct open_out { __u64 fh; __u32 flags; __s32 backing_id; };
struct init_out { __u32 major, minor, readahead, flags; __u16 background, threshold; __u32 max_write, time_gran;
		  __u16 max_pages, map_alignment; __u32 flags2, max_stack_depth, unused[6]; };
struct dirent_out { __u64 ino, off; __u32 namelen, type; char name[8]; };
struct backing_map { __s32 fd; __u32 flags; __u64 padding; };
#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, __u32)
enum { LOOKUP = 1, FORGET = 2, GETATTR = 3, SETATTR = 4, OPEN = 14, READ = 15, WRITE = 16, RELEASE = 18, FLUSH = 25,
       INIT = 26, READDIR = 28 };

/* What the program tells its server, and the server the program. */
struct shared { int cached, direct, reads, writes, releases, lists, hold_init;
		int hold, held; /* answers to this opcode are kept; how many were */
		int mtime; char name[8]; /* of the directory, and what is in it when it is listed, up to 7 letters */ };
static struct shared *shared;
static int writeback; /* FUSE_WRITEBACK_CACHE, to be set before mount_over() */
static char mnt[64];
static int backing; /* what is registered */
static pid_t server;

static void die(const char *what) { perror(what); exit(1); }

static struct attr attributes(__u64 nodeid)
{
	struct stat st;
	struct attr a = { .ino = nodeid, .nlink = 1, .mode = S_IFDIR | 0755 };
	if (nodeid == 1)
		a.mtime = shared->mtime;
	if (nodeid == 2 && !fstat(backing, &st))
		a.size = st.st_size, a.mode = S_IFREG | 0666;
	return a;
}

/* Answers that wait, the oldest first: as soon as nothing is to be kept, each request that comes lets one of them go. */
static struct { size_t length; char out[(1 << 16) + sizeof(struct out_header)]; } kept[4];
static int waiting;

static void let_go(int dev)
{
	if (write(dev, kept->out, kept->length) < 0 && errno != ENOENT)
		die("answer");
	memmove(kept, kept + 1, --waiting * sizeof *kept);
}

static void answer(int dev, const struct in_header *in, int error, const void *data, size_t length)
{
	static char out[sizeof kept->out];
	struct out_header h = { sizeof h + length, error, in->unique };
	memcpy(out, &h, sizeof h);
	memcpy(out + sizeof h, data, length);
	if (in->opcode == shared->hold && waiting < 4) {
		memcpy(kept[waiting].out, out, kept[waiting].length = h.len);
		waiting++, shared->held++;
	} else if (write(dev, out, h.len) < 0 && errno != ENOENT) {
		die("answer");
	}
}

static void serve(int dev)
{
	static char buffer[1 << 18];
	int id = 0, opens = 0;

	while (read(dev, buffer, sizeof buffer) > 0) {
		struct in_header *in = (void *)buffer;
		struct entry e = { .nodeid = 2, .attr = attributes(2) };
		struct attr_out a = { .attr = attributes(in->nodeid) };
		struct open_out o = { 0 };
		struct init_out i = { .major = 7, .minor = 40, .flags = 1 << 30 | 1 << 18, .flags2 = 1 << 5,
				      .max_write = 1 << 16, .max_stack_depth = 1 };
		struct backing_map map = { .fd = backing };
		static char page[1 << 16];

		if (waiting && !shared->hold)
			let_go(dev);
		switch (in->opcode) {
		case INIT:
			while (shared->hold_init)
				sched_yield();
			if (writeback)
				i.flags |= 1 << 16;
			answer(dev, in, 0, &i, sizeof i);
			break;
		case LOOKUP:
			answer(dev, in, strcmp(buffer + sizeof *in, "f") ? -ENOENT : 0, &e,
			       strcmp(buffer + sizeof *in, "f") ? 0 : sizeof e);
			break;
		case GETATTR:
		case SETATTR:
			answer(dev, in, 0, &a, sizeof a);
			break;
		case OPEN:
			if (shared->direct) {
				o.flags = 1 << 0 | 1 << 6; /* DIRECT_IO, PARALLEL_DIRECT_WRITES */
			} else if (!shared->cached) {
				if (!opens++ && (id = ioctl(dev, BACKING_OPEN, &map)) < 0)
					die("BACKING_OPEN");
				o.flags = 1 << 7, o.backing_id = id;
			}
			answer(dev, in, 0, &o, sizeof o);
			break;
		case READ: {
			__u64 offset = *(__u64 *)(buffer + sizeof *in + 8);
			__u32 size = *(__u32 *)(buffer + sizeof *in + 16);
			ssize_t got = pread(backing, page, size < sizeof page ? size : sizeof page, offset);
			if (got < 0)
				die("READ");
			answer(dev, in, 0, page, got);
			shared->reads++;
			break;
		}
		case WRITE: {
			__u64 offset = *(__u64 *)(buffer + sizeof *in + 8);
			__u32 size = *(__u32 *)(buffer + sizeof *in + 16);
			if (pwrite(backing, buffer + sizeof *in + 40, size, offset) != size)
				die("WRITE");
			answer(dev, in, 0, (__u32[]){ size, 0 }, 8);
			shared->writes++;
			break;
		}
		case READDIR: {
			struct dirent_out d = { .ino = 2, .off = 1, .namelen = strlen(shared->name), .type = S_IFREG >> 12 };
			strcpy(d.name, shared->name);
			answer(dev, in, 0, &d, *(__u64 *)(buffer + sizeof *in + 8) ? 0 : sizeof d);
			shared->lists++;
			break;
		}
		case RELEASE:
			if (opens && !--opens)
				ioctl(dev, BACKING_CLOSE, &id);
			answer(dev, in, 0, NULL, 0);
			shared->releases++;
			break;
		case FORGET:
			break;
		default:
			answer(dev, in, -ENOSYS, NULL, 0);
		}
	}
	_exit(0);
}

static void unmount(void) { if (*mnt) umount2(mnt, MNT_DETACH), rmdir(mnt); if (server) kill(server, SIGKILL); }

/* Mounts a filesystem whose file "f" is backed by this descriptor. Returns when it is mounted. */
static void mount_over(int fd)
{
	char options[128];
	int dev = open("/dev/fuse", O_RDWR);

	backing = fd;
	if (!shared)
		shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		die("unshare");
	strcpy(mnt, "/tmp/one-file-XXXXXX");
	if (!mkdtemp(mnt))
		die("mkdtemp");
	snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", dev);
	if (mount("one-file", mnt, "fuse", 0, options))
		die("mount");
	server = fork();
	if (!server)
		serve(dev);
	close(dev);
	atexit(unmount);
}

static inline const char *f(void)
{
	static char path[80];
	snprintf(path, sizeof path, "%s/f", mnt);
	return path;
}

/* A fresh backing file with this text, in the current directory: not on tmpfs, where O_DIRECT is about. */
static inline int backing_file(const char *text)
{
	int fd = open("backing", O_RDWR | O_CREAT | O_TRUNC, 0666);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die("backing");
	return fd;
}
