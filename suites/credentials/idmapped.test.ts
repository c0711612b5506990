import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { OpcodeName } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { MAPPED, mounted, namespace } from '../lib/idmapped.ts';
import { upperOn } from '../lib/stack.ts';

/** FUSE_INVALID_UIDGID, in requests that do not need to say who asks (include/uapi/linux/fuse.h). */
const NOBODY = { uid: 0xffff_ffff, gid: 0xffff_ffff };

/** A client with this id, who has these directories open: those above them are root's alone. */
async function somebody(
  guest: TestGuest,
  id: number,
  directories: Readonly<Record<string, string>>,
): Promise<{ client: Client; at: (name: string) => { dirfd: number; path: string } }> {
  const client = await guest.client();
  const open = new Map<string, number>();
  for (const [name, path] of Object.entries(directories)) {
    open.set(name, await client.open({ path, flags: 'O_RDONLY|O_DIRECTORY' }));
  }
  await client.setCredentials({ uid: id, gid: id });
  return { client, at: (name) => ({ dirfd: open.get(name) ?? -1, path: 'f' }) };
}

guestTest('a backing file that is reached by an idmapped mount is passed through (E15)', async (t, guest) => {
  await using root = await guest.client();
  await using inside = await namespace(guest, root);
  const served = await guest.directory('ext4', 'served');
  const target = await guest.directory('area', 'idmapped');
  await root.writeFile({ path: `${served}/f`, data: 'backing', mode: 0o600 });
  await root.mountIdmapped({ source: served, target, namespaceOf: inside.pid });
  await using _mount = mounted(root, target);
  t.is((await root.stat({ path: `${target}/f` })).uid, MAPPED, 'ids are mapped there');
  {
    await using fuse = await guest.mountFuse({ root: served, backingRoot: target });
    await using client = await guest.client();
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'backing');
    await client.pwrite({ fd, data: 'written, longer', offset: 0 });
    t.is(text(await root.readFile({ path: `${served}/f` })), 'written, longer');
    const { uid, size } = await client.fstat({ fd });
    t.deepEqual({ uid, size }, { uid: 0, size: 15 }, 'FUSE has the ids of its server');
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
    await fuse.waitFor('RELEASE');
  }
});

guestTest('FUSE whose server does not ask for it cannot be mounted idmapped (E15)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ defaultPermissions: true });
  await using root = await guest.client();
  await using inside = await namespace(guest, root);
  const target = await guest.directory('area', 'idmapped');
  const how = { source: fuse.path, target, namespaceOf: inside.pid };
  t.is(await root.errno.mountIdmapped(how), 'EINVAL');
});

guestTest(
  'on an idmapped FUSE mount, and on an overlay over it, the mapped owner is passed through, others are refused (E15)',
  async (t, guest) => {
    const init = { addFlags: ['ALLOW_IDMAP'], maxStackDepth: 1 } as const;
    await using fuse = await guest.mountFuse({ defaultPermissions: true, allowOther: true, init });
    await using root = await guest.client();
    await using inside = await namespace(guest, root);
    await root.writeFile({ path: fuse.backing('f'), data: 'backing', mode: 0o600 });
    await root.chmod({ path: fuse.root, mode: 0o755 });
    const target = await guest.directory('area', 'idmapped');
    const errno = await root.errno.mountIdmapped({ source: fuse.path, target, namespaceOf: inside.pid });
    t.is(errno, guest.expected.idmappedFuse);
    if (errno !== 'ok') return;
    await using _mount = mounted(root, target);
    t.is((await root.stat({ path: `${target}/f` })).uid, MAPPED, 'ids are mapped there');

    await using overlay = await guest.mountOverlay({ lower: target, ...(await upperOn(guest)) }, root);
    t.is((await root.stat({ path: overlay.file('f') })).uid, MAPPED, 'and on the overlay');

    const directories = { plain: fuse.path, idmapped: target, overlay: overlay.path };
    const owner = await somebody(guest, MAPPED, directories);
    await using _owner = owner.client;
    const other = await somebody(guest, MAPPED + 1, directories);
    await using _other = other.client;
    const flags = 'O_RDWR';
    t.is(await owner.client.errno.open({ ...owner.at('plain'), flags }), 'EACCES', 'the mount as it was');
    const fd = await owner.client.open({ ...owner.at('idmapped'), flags });
    t.is(text(await owner.client.pread({ fd, count: 100, offset: 0 })), 'backing');
    await owner.client.pwrite({ fd, data: 'BACK', offset: 0 });
    t.is(text(await root.readFile({ path: fuse.backing('f') })), 'BACKing');
    await owner.client.close({ fd });
    const above = await owner.client.open({ ...owner.at('overlay'), flags: 'O_RDONLY' });
    t.is(text(await owner.client.pread({ fd: above, count: 100, offset: 0 })), 'BACKing');
    await owner.client.close({ fd: above });
    for (const name of ['idmapped', 'overlay']) {
      t.is(await other.client.errno.open({ ...other.at(name), flags: 'O_RDONLY' }), 'EACCES', name);
    }
    const after = await fuse.position();
    await root.chown({ path: `${target}/f`, uid: MAPPED + 2, gid: MAPPED + 3 });
    const [change] = await fuse.requests({ opcode: 'SETATTR', after });
    t.like(change?.args, { uid: 2, gid: 3 }, 'the ids of chown are mapped for the server');
    t.like(await root.stat({ path: fuse.backing('f') }), { uid: 2, gid: 3 }, 'who it gives the file to');
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'on an overlay whose upper layer is idmapped a file without a name is whose a named one is (A4, E15)',
  async (t, guest) => {
    guest.needs(guest.expected.hasIoModes, 'files without a name on overlays: they came with 6.3');
    await using root = await guest.client();
    // Root is root there; who is 1 below is MAPPED there.
    await using inside = await namespace(guest, root, ['0 0 1', `1 ${MAPPED} 1`]);
    const below = await guest.directory('ext4', 'layer');
    for (const name of ['upper', 'work']) await root.mkdir({ path: `${below}/${name}`, mode: 0o777 });
    await root.chmod({ path: `${below}/upper`, mode: 0o777 });
    const target = await guest.directory('area', 'idmapped');
    await root.mountIdmapped({ source: below, target, namespaceOf: inside.pid });
    await using _mount = mounted(root, target);
    const lower = await guest.directory('ext4', 'lower');
    await using overlay = await guest.mountOverlay(
      { lower, upper: `${target}/upper`, work: `${target}/work` },
      root,
    );
    await using caller = await guest.client();
    await caller.chdir({ path: overlay.path });
    await caller.setCredentials({ uid: MAPPED, gid: MAPPED });
    const named = await caller.open({ path: 'named', flags: 'O_RDWR|O_CREAT', mode: 0o600 });
    const nameless = await caller.open({ path: '.', flags: 'O_TMPFILE|O_RDWR', mode: 0o600 });
    for (const [what, fd] of Object.entries({ named, nameless })) {
      const { uid, gid } = await caller.fstat({ fd });
      t.deepEqual({ uid, gid }, { uid: MAPPED, gid: MAPPED }, `${what}: on the overlay`);
    }
    const fd = await root.adoptFd({ pid: caller.pid, fd: nameless });
    await root.linkFd({ fd, to: overlay.file('nameless') });
    await root.close({ fd });
    for (const name of ['named', 'nameless']) {
      const { uid, gid } = await root.stat({ path: `${below}/upper/${name}` });
      t.deepEqual({ uid, gid }, { uid: 1, gid: 1 }, `${name}: below the idmapped mount`);
    }
    for (const each of [named, nameless]) await caller.close({ fd: each });
  },
);

guestTest(
  'with ALLOW_IDMAP the server is told whose a whiteout will be that a rename leaves (E15)',
  async (t, guest) => {
    guest.needs(guest.expected.idmappedFuse === 'ok', 'idmapped mounts of FUSE');
    await using fuse = await guest.mountFuse({
      passthrough: 'off',
      defaultPermissions: true,
      init: { addFlags: ['ALLOW_IDMAP'] },
    });
    await using root = await guest.client();
    await root.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const after = await fuse.position();
    await root.rename({ from: fuse.file('f'), to: fuse.file('g'), flags: 'RENAME_WHITEOUT' });
    const [request] = await fuse.requests({ opcode: 'RENAME2', after });
    t.like(request, { uid: 0, gid: 0 });
    await root.rename({ from: fuse.file('g'), to: fuse.file('h'), flags: 'RENAME_NOREPLACE' });
    await root.rename({ from: fuse.file('h'), to: fuse.file('i') });
    await root.link({ from: fuse.file('i'), to: fuse.file('j') });
    for (const opcode of ['RENAME2', 'RENAME', 'LINK'] as const) {
      const last = (await fuse.requests({ opcode, after })).at(-1);
      t.like(last, NOBODY, `${opcode} that makes no node says of nobody`);
    }
    const { mode, uid, gid } = await root.stat({ path: fuse.backing('f') });
    t.deepEqual({ kind: mode & 0o170_000, uid, gid }, { kind: 0o020_000, uid: 0, gid: 0 }, 'the whiteout');
  },
);

/** What somebody does in a directory, each with what it sends. `fd`: of the file `f`. */
const DONE_THERE: Partial<Readonly<Record<OpcodeName, (client: Client, fd: number) => Promise<unknown>>>> = {
  MKDIR: (client) => client.mkdir({ path: 'd' }),
  MKNOD: (client) => client.mknod({ path: 'p', mode: 0o010_644 }),
  SYMLINK: (client) => client.symlink({ target: 'elsewhere', path: 'l' }),
  CREATE: async (client) => client.close({ fd: await client.open({ path: 'c', flags: 'O_RDWR|O_CREAT' }) }),
  TMPFILE: async (client) =>
    client.close({ fd: await client.open({ path: '.', flags: 'O_RDWR|O_TMPFILE' }) }),
  LOOKUP: (client) => client.errno.stat({ path: 'none' }),
  OPEN: async (client) => client.close({ fd: await client.open({ path: 'f', flags: 'O_RDWR' }) }),
  GETXATTR: (client) => client.errno.getxattr({ path: 'f', name: 'user.x', size: 10 }),
  UNLINK: (client) => client.unlink({ path: 'l' }),
  GETATTR: (client, fd) => client.fstat({ fd }),
  READ: (client, fd) => client.pread({ fd, count: 8, offset: 0 }),
  FSYNC: (client, fd) => client.fsync({ fd }),
  FLUSH: (client, fd) => client.close({ fd }),
};
const MAKES = new Set(['MKDIR', 'MKNOD', 'SYMLINK', 'CREATE', 'TMPFILE']);

guestTest(
  'with ALLOW_IDMAP the server is told who asks where something is made, and nowhere else (E15)',
  async (t, guest) => {
    guest.needs(guest.expected.idmappedFuse === 'ok', 'idmapped mounts of FUSE');
    // With ASYNC_READ a READ is sent in the background, for whoever it is.
    const init = { addFlags: ['ALLOW_IDMAP', 'ASYNC_READ'] } as const;
    const options = { passthrough: 'off', defaultPermissions: true, allowOther: true, init } as const;
    await using fuse = await guest.mountFuse(options);
    await using root = await guest.client();
    await using inside = await namespace(guest, root);
    await root.chmod({ path: fuse.root, mode: 0o777 });
    await root.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await root.chmod({ path: fuse.backing('f'), mode: 0o666 });
    const target = await guest.directory('area', 'idmapped');
    await root.mountIdmapped({ source: fuse.path, target, namespaceOf: inside.pid });
    await using _mount = mounted(root, target);
    await using client = await guest.client();
    await client.chdir({ path: target });
    await client.setCredentials({ uid: MAPPED + 2, gid: MAPPED + 3 });
    const fd = await client.open({ path: 'f', flags: 'O_RDWR' });
    for (const [opcode, does] of Object.entries(DONE_THERE)) {
      const after = await fuse.position();
      await does(client, fd);
      const request = await fuse.waitFor({ opcode: opcode as OpcodeName, after });
      t.like(request, MAKES.has(opcode) ? { uid: 2, gid: 3 } : NOBODY, opcode);
    }
  },
);
