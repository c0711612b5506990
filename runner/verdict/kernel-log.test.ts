import { readFileSync } from 'node:fs';
import test from 'ava';
import { recogniseFaults, withoutStamp } from './kernel-log.ts';

type Expected = readonly { readonly kind: string; readonly title: string; readonly fingerprint: string }[];

const saved: Readonly<Record<string, Expected>> = {
  'oops-null-pointer': [
    {
      kind: 'oops',
      title: 'BUG: kernel NULL pointer dereference, address: 0000000000000018',
      fingerprint: 'oops fuse_passthrough_read_iter < vfs_read < ksys_read',
    },
  ],
  'kasan-use-after-free': [
    {
      kind: 'kasan',
      title: 'BUG: KASAN: slab-use-after-free in fuse_backing_put',
      fingerprint: 'kasan fuse_backing_put < fuse_passthrough_release < fuse_file_io_release',
    },
  ],
  'warning-refcount': [
    {
      kind: 'warning',
      title: 'WARNING at lib/refcount.c:28 in refcount_warn_saturate: refcount_t: underflow; use-after-free.',
      fingerprint: 'warning fuse_backing_put < fuse_backing_close < fuse_dev_ioctl',
    },
  ],
  'warning-two': [
    {
      kind: 'warning',
      title: 'WARNING at fs/fuse/iomode.c:215 in fuse_file_io_release',
      fingerprint: 'warning fuse_file_io_release < fuse_file_put < fuse_release_common',
    },
    {
      kind: 'bug',
      title:
        'kernel BUG at lib/list_debug.c:62!: list_del corruption. prev->next should be ffff888003a41c00, but was ffff888003a41c80',
      fingerprint: 'bug __list_del_entry_valid_or_report < fuse_conn_put',
    },
  ],
  'lockdep-circular': [
    {
      kind: 'lockdep',
      title: 'WARNING: possible circular locking dependency detected',
      fingerprint: 'lockdep ovl_copy_up_start < fuse_passthrough_write_iter < ovl_copy_up_start',
    },
  ],
  'hung-task': [
    {
      kind: 'hung-task',
      title: 'INFO: task client:412 blocked for more than 120 seconds.',
      fingerprint: 'hung-task request_wait_answer < fuse_simple_request < fuse_flush',
    },
  ],
  'soft-lockup': [
    {
      kind: 'lockup',
      title: 'BUG: soft lockup - CPU#0 stuck for 26s! [node:141]',
      fingerprint: 'lockup fuse_dev_do_write < fuse_dev_write < do_iter_readv_writev',
    },
  ],
  'rcu-stall': [
    {
      kind: 'rcu-stall',
      title: 'INFO: rcu_preempt self-detected stall on CPU',
      fingerprint: 'rcu-stall fuse_uring_abort < fuse_abort_conn',
    },
  ],
  'panic-no-init': [
    {
      kind: 'panic',
      title: 'Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)',
      fingerprint: 'panic mount_root_generic < prepare_namespace < kernel_init_freeable',
    },
  ],
  'ubsan-and-slab': [
    {
      kind: 'bug',
      title: 'UBSAN: array-index-out-of-bounds in fs/fuse/dev.c:2041:17',
      fingerprint: 'bug fuse_dev_do_read',
    },
    {
      kind: 'bug',
      title: 'BUG kmalloc-64: Poison overwritten',
      fingerprint: 'bug fuse_file_alloc',
    },
  ],
  'kmsg-leak-and-busy': [
    {
      kind: 'bug',
      title: 'VFS: Busy inodes after unmount of vdb (ext4)',
      fingerprint: 'bug VFS: Busy inodes after unmount of vdb (extN)',
    },
    {
      kind: 'leak',
      title: 'kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)',
      fingerprint: 'leak kmemleak: N new suspected memory leaks (see /sys/kernel/debug/kmemleak)',
    },
  ],
  quiet: [],
};

for (const [name, expected] of Object.entries(saved)) {
  test(`kernel log: ${name}`, (t) => {
    const faults = recogniseFaults(load(name));
    t.deepEqual(
      faults.map(({ kind, title, fingerprint }) => ({ kind, title, fingerprint })),
      [...expected],
    );
    t.true(faults.every((fault) => !fault.emulatorSuspect));
  });
}

test('kernel log: an int3 oops is suspect of being made up by the emulator', (t) => {
  const [fault, ...others] = recogniseFaults(load('oops-int3-under-tcg'));
  t.is(fault?.kind, 'oops');
  t.true(fault?.emulatorSuspect);
  t.deepEqual(others, []);
});

test('kernel log: the panic after an oops belongs to the oops', (t) => {
  const [fault] = recogniseFaults(load('oops-null-pointer'));
  t.true(fault?.lines.some((line) => line.includes('Kernel panic')));
});

test('kernel log: two different machines give one fingerprint', (t) => {
  const other = load('warning-refcount').map((line) =>
    line.replace('188', '4711').replace('+0x51/', '+0x71/').replace('CPU: 0', 'CPU: 3'),
  );
  t.is(recogniseFaults(other)[0]?.fingerprint, recogniseFaults(load('warning-refcount'))[0]?.fingerprint);
});

const simple: readonly (readonly [string, string])[] = [
  ['BUG: sleeping function called from invalid context at kernel/locking/mutex.c:585', 'bug'],
  ['BUG: scheduling while atomic: client/311/0x00000002', 'bug'],
  ['general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] SMP', 'oops'],
  ['Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP', 'oops'],
  ['BUG: unable to handle page fault for address: ffffc90000abc000', 'oops'],
  ['WARNING: suspicious RCU usage', 'lockdep'],
  ['WARNING: possible recursive locking detected', 'lockdep'],
  ['WARNING: lock held when returning to user space!', 'lockdep'],
  ['[ BUG: Invalid wait context ]', 'lockdep'],
  ['WARNING: fs/fuse/file.c:3123 at fuse_release+0x12/0x30, CPU#0: client/311', 'warning'],
  ['BUG: KFENCE: use-after-free read in fuse_file_put+0x12/0x30', 'kasan'],
  ['refcount_t: addition on 0; use-after-free.', 'warning'],
  ['watchdog: Watchdog detected hard LOCKUP on cpu 1', 'lockup'],
  ['unreferenced object 0xffff888006a11c40 (size 64):', 'leak'],
];

for (const [line, kind] of simple) {
  test(`kernel log: "${line.slice(0, 60)}" is ${kind}`, (t) => {
    const faults = recogniseFaults([`[    1.000001] ${line}`]);
    t.deepEqual(
      faults.map((fault) => fault.kind as string),
      [kind],
    );
  });
}

test('kernel log: stamps of console and kmsg are removed', (t) => {
  t.is(withoutStamp('[    1.000001][   T12] text'), 'text');
  t.is(withoutStamp('<4>[   11.000001] text'), 'text');
  t.is(withoutStamp('4,302,9100001,-;text'), 'text');
  t.is(withoutStamp('text [1.0]'), 'text [1.0]');
});

function load(name: string): string[] {
  return readFileSync(new URL(`testdata/${name}.log`, import.meta.url), 'utf8').split('\n');
}
