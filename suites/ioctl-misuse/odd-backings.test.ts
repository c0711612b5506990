import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FdSource } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { needsMaxStackDepth } from '../lib/stack-depth.ts';
import { WITHOUT_PASSTHROUGH, needsMappings, needsSingleUseIds, openWithId } from '../lib/registration.ts';

/** Opens `f` with that file as its backing file. */
async function openOn(
  guest: TestGuest,
  client: Client,
  { fuse, from, flags }: { fuse: FuseMount; from: FdSource; flags?: string },
): Promise<number> {
  const id = await fuse.server.registerBacking(from);
  await client.writeFile({ path: fuse.backing('f'), data: 'what the server has' });
  return openWithId(guest, client, flags === undefined ? { fuse, id } : { fuse, id, flags });
}

guestTest('a memfd is a backing file like any other (B27)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const memfd = await client.memfd_create({ name: 'backing', flags: '' });
  await client.write({ fd: memfd, data: 'in memory' });
  const fd = await openOn(guest, client, { fuse, from: { pid: client.pid, fd: memfd } });

  t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'in memory');
  await client.pwrite({ fd, data: 'IN', offset: 0 });
  t.is(text(await client.pread({ fd: memfd, count: 100, offset: 0 })), 'IN memory');
  await client.close({ fd: memfd });
  t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'IN memory', 'its maker has closed it');
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

/** A memfd that must not be written to any more, open through FUSE. */
async function openSealed(
  guest: TestGuest,
  fuse: FuseMount,
  client: Client,
): Promise<{ fd: number; memfd: number }> {
  const memfd = await client.memfd_create({ name: 'sealed', flags: 'MFD_ALLOW_SEALING' });
  await client.write({ fd: memfd, data: 'sealed' });
  await client.fcntl({ fd: memfd, cmd: 'F_ADD_SEALS', arg: 'F_SEAL_WRITE|F_SEAL_GROW|F_SEAL_SHRINK' });
  return { fd: await openOn(guest, client, { fuse, from: { pid: client.pid, fd: memfd } }), memfd };
}

guestTest('a sealed memfd can be read and not written through FUSE (B27)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const { fd, memfd } = await openSealed(guest, fuse, client);
  t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'sealed');
  t.is(await client.errno.pwrite({ fd: memfd, data: 'X', offset: 0 }), 'EPERM', 'itself');
  t.is(await client.errno.pwrite({ fd, data: 'X', offset: 0 }), 'EPERM', 'through FUSE');
  t.is(text(await client.pread({ fd: memfd, count: 100, offset: 0 })), 'sealed');
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('a sealed memfd cannot be mapped shared and writable through FUSE (B27)', async (t, guest) => {
  needsMappings(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const { fd, memfd } = await openSealed(guest, fuse, client);
  const how = { length: 4096, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' };
  t.is(await client.errno.mmap({ fd: memfd, ...how }), 'EPERM', 'itself');
  t.is(await client.errno.mmap({ fd, ...how }), 'EPERM', 'through FUSE');
});

guestTest(
  'a sealed memfd is mapped shared to be read, and does not become writable (B27)',
  async (t, guest) => {
    needsSingleUseIds(guest);
    needsMappings(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    const { fd, memfd } = await openSealed(guest, fuse, client);
    for (const [what, each] of Object.entries({ itself: memfd, 'through FUSE': fd })) {
      const map = await client.mmap({ fd: each, length: 4096, prot: 'PROT_READ', flags: 'MAP_SHARED' });
      t.is(text(await client.mread({ map, offset: 0, length: 6 })), 'sealed', what);
      t.is(await client.errno.mprotect({ map, prot: 'PROT_READ|PROT_WRITE' }), 'EACCES', what);
      await client.munmap({ map });
    }
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'a memfd can be sealed when it is not mapped through FUSE any more (A13, B27)',
  async (t, guest) => {
    needsMappings(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    const memfd = await client.memfd_create({ name: 'backing', flags: 'MFD_ALLOW_SEALING' });
    await client.write({ fd: memfd, data: 'in memory' });
    const fd = await openOn(guest, client, { fuse, from: { pid: client.pid, fd: memfd } });
    const map = await client.mmap({ fd, length: 4096, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
    const seal = { fd: memfd, cmd: 'F_ADD_SEALS', arg: 'F_SEAL_WRITE' } as const;
    t.is(await client.errno.fcntl(seal), 'EBUSY', 'mapped');
    await client.munmap({ map });
    t.is(await client.errno.fcntl(seal), 'ok', 'unmapped');
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('files without a name, O_TMPFILE or unlinked, serve as backing files (B27)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const path = fuse.backing('gone');
  const tmpfile = await client.open({ path: fuse.root, flags: 'O_TMPFILE|O_RDWR', mode: 0o600 });
  const unlinked = await client.open({ path, flags: 'O_RDWR|O_CREAT' });
  await client.unlink({ path });

  for (const [what, nameless] of Object.entries({ tmpfile, unlinked })) {
    await client.pwrite({ fd: nameless, data: what, offset: 0 });
    const fd = await openOn(guest, client, { fuse, from: { pid: client.pid, fd: nameless } });
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), what);
    await client.pwrite({ fd, data: 'written', offset: 0 });
    t.is(text(await client.pread({ fd: nameless, count: 7, offset: 0 })), 'written', what);
    await client.close({ fd });
  }
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('a sysfs file is accepted and read, a procfs file is not (B11, B27)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const path = '/sys/kernel/uevent_seqnum';
  t.is(
    await fuse.server.registerErrno({ path: '/proc/version', flags: 'O_RDONLY' }),
    guest.expected.procFile,
  );
  const fd = await openOn(guest, client, { fuse, from: { path, flags: 'O_RDONLY' }, flags: 'O_RDONLY' });
  t.regex(text(await client.pread({ fd, count: 100, offset: 0 })), /^\d+\n$/);
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'a file that cannot be mapped gives ENODEV for mmap through FUSE, too (A13, B27)',
  async (t, guest) => {
    needsMappings(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    const map = { length: 4096, prot: 'PROT_READ', flags: 'MAP_SHARED' } as const;
    const cannot: Record<string, string> = { 'its mmap refuses': '/sys/kernel/uevent_seqnum' };
    // A file without read_iter is no lower file of the 2021 series.
    if (guest.expected.reopensBackingFile) {
      cannot['it has no mmap'] = `/sys/fs/fuse/connections/${fuse.connection}/waiting`;
    }
    for (const [why, path] of Object.entries(cannot)) {
      const native = await client.open({ path, flags: 'O_RDONLY' });
      t.is(await client.errno.mmap({ fd: native, ...map }), 'ENODEV', `${why}: by itself`);
      await client.close({ fd: native });
      const fd = await openOn(guest, client, { fuse, from: { path, flags: 'O_RDONLY' }, flags: 'O_RDONLY' });
      t.is(await client.errno.mmap({ fd, ...map }), 'ENODEV', `${why}: through FUSE`);
      await client.close({ fd });
    }
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

/** Calls on a backing file that has `read` and `write`, and none of the operations that passthrough goes by. */
const WITHOUT_OPERATIONS: Readonly<Record<string, (client: Client, fd: number) => Promise<unknown>>> = {
  pread: (client, fd) => client.errno.pread({ fd, count: 10, offset: 0 }),
  pwrite: (client, fd) => client.errno.pwrite({ fd, data: '13', offset: 0 }),
  'splice out of it': async (client, fd) => {
    const [end, fdOut] = await client.pipe({});
    const errno = await client.errno.splice({ fdIn: fd, offIn: 0, fdOut, length: 2 });
    for (const each of [end, fdOut]) await client.close({ fd: each });
    return errno;
  },
  'splice into it': async (client, fd) => {
    const [fdIn, end] = await client.pipe({});
    await client.write({ fd: end, data: '13' });
    const errno = await client.errno.splice({ fdIn, fdOut: fd, offOut: 0, length: 2 });
    for (const each of [fdIn, end]) await client.close({ fd: each });
    return errno;
  },
};

guestTest(
  'a file that cannot be read, written or spliced by the kernel gives EINVAL through FUSE (A21, A22, B27)',
  async (t, guest) => {
    guest.needs(guest.expected.reopensBackingFile, 'backing files without operations of their own');
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    const path = `/sys/fs/fuse/connections/${fuse.connection}/max_background`;
    t.is(text(await client.readFile({ path })), '12\n', 'by itself');
    const fd = await openOn(guest, client, { fuse, from: { path, flags: 'O_RDWR' } });
    for (const [what, call] of Object.entries(WITHOUT_OPERATIONS)) {
      t.is(await call(client, fd), 'EINVAL', `${what}: through FUSE`);
    }
    await client.close({ fd });
    t.is(text(await client.readFile({ path })), '12\n', 'nothing was written');
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('procfs is too deep at max_stack_depth 2 as well (B11)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ init: { maxStackDepth: 2 } });
  const file = { path: '/proc/version', flags: 'O_RDONLY' };
  t.is(await fuse.server.registerErrno(file), guest.expected.procFile);
});

guestTest(
  'a file of another FUSE without passthrough is a backing file of depth 0 (B27, E12)',
  async (t, guest) => {
    const init = WITHOUT_PASSTHROUGH;
    await using lower = await guest.mountFuse({ passthrough: 'off', init });
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await client.writeFile({ path: lower.backing('b'), data: 'from the other FUSE' });
    const fd = await openOn(guest, client, { fuse, from: { path: lower.file('b'), flags: 'O_RDWR' } });

    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'from the other FUSE');
    t.deepEqual(await fuse.dataRequests(), [], 'not to the upper server');
    t.deepEqual(await lower.opcodes('READ'), ['READ'], 'to the lower one');
    await client.close({ fd });
  },
);

guestTest(
  'a file of another FUSE with depth 1 is too deep for depth 1 and fine for depth 2 (B12, E10)',
  async (t, guest) => {
    needsMaxStackDepth(guest);
    await using lower = await guest.mountFuse({ init: { maxStackDepth: 1 } });
    await using shallow = await guest.mountFuse({ init: { maxStackDepth: 1 } });
    await using deep = await guest.mountFuse({ passthrough: 'off', init: { maxStackDepth: 2 } });
    await using client = await guest.client();
    await client.writeFile({ path: lower.backing('b'), data: 'two levels down' });
    const from = { path: lower.file('b'), flags: 'O_RDWR' };

    t.is(await shallow.server.registerErrno(from), guest.expected.tooDeep);
    const fd = await openOn(guest, client, { fuse: deep, from });
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'two levels down');
    t.deepEqual([...(await deep.dataRequests()), ...(await lower.dataRequests())], [], 'to no server');
    await client.close({ fd });
  },
);

guestTest('a file of another FUSE with depth 2 is too deep for everybody (B11, E10)', async (t, guest) => {
  await using lower = await guest.mountFuse({ init: { maxStackDepth: 2 } });
  await using fuse = await guest.mountFuse({ init: { maxStackDepth: 2 } });
  await using client = await guest.client();
  await client.writeFile({ path: lower.backing('b'), data: 'x' });
  const from = { path: lower.file('b'), flags: 'O_RDWR' };
  t.is(await fuse.server.registerErrno(from), guest.expected.tooDeep);
});

guestTest('a file of the same FUSE mount is too deep at depth 2 as well (B12)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ init: { maxStackDepth: 2 } });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  t.is(await fuse.server.registerErrno({ pid: client.pid, fd }), guest.expected.tooDeep);
  await client.close({ fd });
});
