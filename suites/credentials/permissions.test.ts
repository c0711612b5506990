import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount, FuseOptions } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';

const STRANGER = 1000;
const HOUR_S = 3600;

/** A client of no privilege, and the directory from which it reaches the FUSE files. */
async function stranger(guest: TestGuest, fuse: FuseMount): Promise<{ client: Client; dirfd: number }> {
  const client = await guest.client();
  const dirfd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
  await client.setCredentials({ uid: STRANGER, gid: STRANGER });
  return { client, dirfd };
}

/** A file of mode 0600 that belongs to root, and a stranger who wants it. */
async function closedFile(
  guest: TestGuest,
  options: FuseOptions,
): Promise<{ fuse: FuseMount; root: Client; client: Client; file: { dirfd: number; path: string } }> {
  const fuse = await guest.mountFuse(options);
  const root = await guest.client();
  await root.writeFile({ path: fuse.backing('f'), data: 'backing', mode: 0o600 });
  const { client, dirfd } = await stranger(guest, fuse);
  return { fuse, root, client, file: { dirfd, path: 'f' } };
}

guestTest(
  'without default_permissions the server decides who opens, and the backing file’s mode does not (F4)',
  async (t, guest) => {
    const { fuse, root, client, file } = await closedFile(guest, {});
    await using _fuse = fuse;
    await using _root = root;
    await using _client = client;
    const fd = await client.open({ ...file, flags: 'O_RDWR' });
    t.deepEqual(await fuse.opcodes({ path: '/f' }), ['LOOKUP', 'OPEN'], 'the kernel asks for no mode');
    t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'backing');
    t.is(await client.pwrite({ fd, data: 'written', offset: 0 }), 7);
    await client.close({ fd });
    await fuse.fail('OPEN', 'EACCES');
    t.is(await client.errno.open({ ...file, flags: 'O_RDONLY' }), 'EACCES');
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'with default_permissions the mode decides on opens, and not on what is open (F4, F5)',
  async (t, guest) => {
    const { fuse, root, client, file } = await closedFile(guest, { defaultPermissions: true });
    await using _fuse = fuse;
    await using _root = root;
    await using _client = client;
    t.is(await client.errno.open({ ...file, flags: 'O_RDONLY' }), 'EACCES', '0600');
    t.deepEqual(await fuse.requests('OPEN'), [], 'the server is not even asked');

    await root.chmod({ path: fuse.file('f'), mode: 0o606 });
    const fd = await client.open({ ...file, flags: 'O_RDWR' });
    await root.chmod({ path: fuse.file('f'), mode: 0o600 });
    t.is(await client.errno.open({ ...file, flags: 'O_RDONLY' }), 'EACCES', '0600 again');
    t.is(await client.pwrite({ fd, data: 'written', offset: 0 }), 7, 'what is open stays open');
    t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'written');
    t.is((await client.fstat({ fd })).mode & 0o777, 0o600);
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'without allow_other only who mounted may open, but a descriptor that is passed on works (F3, F5)',
  async (t, guest) => {
    const { fuse, root, client, file } = await closedFile(guest, { allowOther: false });
    await using _fuse = fuse;
    await using _root = root;
    await using _client = client;
    t.is(await client.errno.open({ ...file, flags: 'O_RDONLY' }), 'EACCES');
    t.is(text(await root.readFile({ path: fuse.file('f') })), 'backing', 'who mounted');

    await using receiver = await guest.client();
    const fd = await root.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const passed = await receiver.adoptFd({ pid: root.pid, fd });
    await receiver.setCredentials({ uid: STRANGER, gid: STRANGER });
    t.is(text(await receiver.pread({ fd: passed, count: 7, offset: 0 })), 'backing');
    t.is(await receiver.pwrite({ fd: passed, data: 'written', offset: 0 }), 7);
    t.is(
      await receiver.errno.ftruncate({ fd: passed, length: 3 }),
      'EACCES',
      'what the server would have to do',
    );
    t.is(text(await root.readFile({ path: fuse.backing('f') })), 'written');
    await receiver.close({ fd: passed });
    await root.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'an open file has the access mode of its open, whatever was registered (B10, F5)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
    const reader = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    const writer = await client.open({ path: fuse.file('f'), flags: 'O_WRONLY' });
    const data = new Uint8Array([1]);
    t.is(await client.errno.pwrite({ fd: reader, data, offset: 0 }), 'EBADF', 'write');
    t.is(await client.errno.pread({ fd: writer, count: 1, offset: 0 }), 'EBADF', 'read');
    t.is(
      await client.errno.aio({ operations: [{ op: 'pwrite', fd: reader, data, offset: 0 }] }),
      'EBADF',
      'AIO write',
    );
    t.is(
      await client.errno.aio({ operations: [{ op: 'pread', fd: writer, count: 1, offset: 0 }] }),
      'EBADF',
      'AIO read',
    );
    const [out, into] = await client.pipe({});
    await client.write({ fd: into, data });
    t.is(
      await client.errno.splice({ fdIn: out, fdOut: reader, offOut: 0, length: 1 }),
      'EBADF',
      'splice to it',
    );
    t.is(
      await client.errno.splice({ fdIn: writer, offIn: 0, fdOut: into, length: 1 }),
      'EBADF',
      'splice from it',
    );
    t.is(text(await client.readFile({ path: fuse.backing('f') })), 'backing', 'nothing is written');
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'without default_permissions the server decides who looks into a directory that nobody may search (F4)',
  async (t, guest) => {
    await using client = await guest.client();
    for (const defaultPermissions of [false, true]) {
      await using fuse = await guest.mountFuse({ allowOther: true, defaultPermissions });
      await client.chmod({ path: fuse.root, mode: 0o755 });
      await client.mkdir({ path: fuse.backing('d') });
      await client.writeFile({ path: fuse.backing('d/f'), data: 'of root', mode: 0o644 });
      await client.chmod({ path: fuse.backing('d'), mode: 0o600 });
      await using stranger = await guest.client();
      await stranger.chdir({ path: fuse.path });
      await stranger.setCredentials({ uid: 4000, gid: 4000 });
      const errno = await stranger.errno.stat({ path: 'd/f' });
      t.is(errno, defaultPermissions ? 'EACCES' : 'ok', `default_permissions ${String(defaultPermissions)}`);
      const asked = (await fuse.requests('LOOKUP')).map(({ args }) => args['name']);
      t.deepEqual(asked, defaultPermissions ? ['d'] : ['d', 'f'], 'names that the server is asked for');
    }
  },
);

guestTest(
  'without default_permissions a sticky directory is the server’s business, too (F4)',
  async (t, guest) => {
    for (const [defaultPermissions, attrValidS] of [
      [false, 0],
      [false, HOUR_S],
      [true, 0],
    ] as const) {
      await using fuse = await guest.mountFuse({ allowOther: true, defaultPermissions, attrValidS });
      await using client = await guest.client();
      await client.chmod({ path: fuse.root, mode: 0o755 });
      await client.mkdir({ path: fuse.backing('d') });
      await client.chmod({ path: fuse.backing('d'), mode: 0o1777 });
      await client.writeFile({ path: fuse.backing('d/f'), data: 'of root' });
      await using stranger = await guest.client();
      await stranger.chdir({ path: fuse.path });
      await stranger.setCredentials({ uid: 4000, gid: 4000 });
      const errno = await stranger.errno.unlink({ path: 'd/f' });
      t.is(errno, defaultPermissions ? 'EPERM' : 'ok', `default_permissions ${String(defaultPermissions)}`);
      const mode = (await client.stat({ path: fuse.file('d') })).mode & 0o7777;
      t.is(
        mode.toString(8),
        '1777',
        `the bit is told in either case, by attributes that count ${attrValidS} s`,
      );
      t.is((await fuse.requests('UNLINK')).length, defaultPermissions ? 0 : 1, 'who decides');
    }
  },
);

/** What only an owner may do by the rules of the kernel. */
const OWNERS_CALLS: Readonly<Record<string, (client: Client, path: string) => Promise<string>>> = {
  chmod: (client, path) => client.errno.chmod({ path, mode: 0o666 }),
  chown: (client, path) => client.errno.chown({ path, uid: STRANGER, gid: STRANGER }),
  utimens: (client, path) => client.errno.utimens({ path, atimeNs: 1e18, mtimeNs: 1e18 }),
};

guestTest(
  'a stranger changes mode, owner and times of a file only where the server decides on it (F4)',
  async (t, guest) => {
    for (const defaultPermissions of [false, true]) {
      await using fuse = await guest.mountFuse({ allowOther: true, defaultPermissions });
      await using root = await guest.client();
      await root.chmod({ path: fuse.root, mode: 0o755 });
      await using stranger = await guest.client();
      await stranger.chdir({ path: fuse.path });
      await stranger.setCredentials({ uid: STRANGER, gid: STRANGER });
      for (const [what, call] of Object.entries(OWNERS_CALLS)) {
        await root.writeFile({ path: fuse.backing(what), data: 'of root' });
        const after = await fuse.position();
        const errno = await call(stranger, what);
        const asked = await fuse.opcodes({ opcode: 'SETATTR', after });
        const expected = defaultPermissions ? ['EPERM', []] : ['ok', ['SETATTR']];
        t.deepEqual([errno, asked], expected, `${what}, default_permissions ${String(defaultPermissions)}`);
      }
    }
  },
);
