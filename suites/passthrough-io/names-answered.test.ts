import { open32, needs32Bit } from '../lib/calls-32.ts';
import type { Client } from '../lib/client.ts';
import { ATTR, ENTRY, entryAnswer, u32, u64 } from '../lib/entry-answer.ts';
import type { OpcodeName } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What the server answers about names, and what becomes of the name: lookups, what is made, what is taken away. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
/** `fuse_attr.flags`, and what it says of a directory that is a mount of its own. */
const ATTR_FLAGS = 84;
const ATTR_SUBMOUNT = 1;
/** One more than FUSE_NAME_MAX, which later versions keep for servers whose requests are small. */
const TOO_LONG = 1025;
const SMALL = { dropFlags: ['MAX_PAGES'], maxPages: 1 } as const;
const SOCKET = 0o140_640;
const LARGE = 3n * 2n ** 30n;
/** asm-generic/fcntl.h */
const [O_RDWR, O_CREAT, O_DIRECTORY, O_LARGEFILE] = [2, 0o100, 0o200_000, 0o100_000];
const EOVERFLOW = 75;

async function file(client: Client, fuse: FuseMount, name: string): Promise<void> {
  await client.writeFile({ path: fuse.backing(name), data: name });
}

guestTest(
  'a name that is gone, said by an answer without a number, is gone, and nothing is given back for it',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await file(client, fuse, 'f');
    await client.stat({ path: fuse.file('f') });
    const node = await fuse.nodeid('/f');
    const after = await fuse.position();
    const body = entryAnswer({ nodeid: 0n, entryValidS: LONG });
    await fuse.rule({ match: { opcode: 'LOOKUP', path: '/f' }, action: { do: 'body', body } });
    t.is(await client.errno.stat({ path: fuse.file('f') }), 'ENOENT');
    // What is given back comes in the order in which it was.
    await fuse.waitFor({ opcode: ['FORGET', 'BATCH_FORGET'], after, nodeid: node }, 'arrived');
    const given = await fuse.requests({ opcode: ['FORGET', 'BATCH_FORGET'], after });
    t.deepEqual(
      given.map(({ nodeid }) => nodeid),
      [node],
    );
  },
);

guestTest('a name is asked for once when there is no memory to look at it, and stays', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await file(client, fuse, 'f');
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  const named = (): Promise<string> => client.readlink({ path: `/proc/${client.pid}/fd/${fd}` });
  for (const [errno, lookups, stays] of [
    ['ENOMEM', 1, true],
    ['EIO', 2, false],
  ] as const) {
    const after = await fuse.position();
    const takeBack = await fuse.fail('LOOKUP', errno);
    t.is(await client.errno.stat({ path: fuse.file('f') }), errno);
    t.is((await fuse.requests({ opcode: 'LOOKUP', after })).length, lookups, `${errno}: LOOKUP`);
    await takeBack();
    const name = fuse.file('f');
    t.is(await named(), stays ? name : `${name} (deleted)`, `${errno}: what the kernel has`);
  }
  await client.close({ fd });
});

guestTest('a directory that is said to be a mount of its own by now is looked up anew', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.mkdir({ path: fuse.backing('d') });
  const lookups = async (): Promise<number> => {
    const after = await fuse.position();
    await client.stat({ path: fuse.file('d') });
    return (await fuse.requests({ opcode: 'LOOKUP', after })).length;
  };
  t.is(await lookups(), 1, 'the first time');
  t.is(await lookups(), 1, 'the same directory as before');
  const flag = { do: 'patch', at: ENTRY.attr + ATTR_FLAGS, bytes: u32(ATTR_SUBMOUNT) } as const;
  await fuse.rule({ match: { opcode: 'LOOKUP', path: '/d' }, times: 1, action: flag });
  t.is(await lookups(), 2, 'a mount of its own');
  t.is(await lookups(), 1, 'no longer');
});

guestTest('a name that is longer than FUSE has names is asked of nobody', async (t, guest) => {
  await using fuse = await guest.mountFuse({ init: SMALL });
  await using client = await guest.client();
  await fuse.fail('LOOKUP', 'ENOENT');
  const path = fuse.file('n'.repeat(TOO_LONG));
  t.is(await client.errno.stat({ path }), 'ENAMETOOLONG');
  t.is(await client.errno.mkdir({ path }), 'ENAMETOOLONG');
  t.deepEqual(await fuse.opcodes({ opcode: ['LOOKUP', 'MKDIR'] }), []);
});

guestTest('a socket that the server has, or is told to make, is one', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.mknod({ path: fuse.backing('there'), mode: SOCKET });
  t.is((await client.lstat({ path: fuse.file('there') })).mode, SOCKET);
  await client.mknod({ path: fuse.file('made'), mode: SOCKET });
  t.is((await client.lstat({ path: fuse.file('made') })).mode, SOCKET);
  t.is((await client.lstat({ path: fuse.backing('made') })).mode, SOCKET, 'with the server');
  t.is(await client.errno.open({ path: fuse.file('made'), flags: 'O_RDONLY' }), 'ENXIO', 'it is not opened');
});

/** Types of names that are opened by the kernel alone. */
const SPECIAL = { 'a socket': SOCKET, 'a fifo': 0o010_644, 'a device': 0o020_644 } as const;

/** What else is done with a name, and the request that says so. */
const DONE: Partial<Record<OpcodeName, (client: Client, path: string) => Promise<string>>> = {
  GETATTR: (client, path) => client.errno.stat({ path, flags: 'AT_STATX_FORCE_SYNC' }),
  SETATTR: (client, path) => client.errno.chmod({ path, mode: 0o600 }),
  ACCESS: (client, path) => client.errno.access({ path, mode: 'R_OK' }),
  LISTXATTR: (client, path) => client.errno.listxattr({ path }),
  GETXATTR: (client, path) => client.errno.getxattr({ path, name: 'trusted.n', size: 100 }),
};

for (const [what, mode] of Object.entries(SPECIAL)) {
  guestTest(`the attributes of ${what} are the server’s, like those of a file (A45)`, async (t, guest) => {
    await using fuse = await guest.mountFuse({ entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    const path = fuse.file('special');
    await client.mknod({ path, mode, major: 1, minor: 3 });
    for (const [opcode, call] of Object.entries(DONE)) {
      await fuse.fail(opcode as OpcodeName, 'EDQUOT', 1);
      t.is(await call(client, path), 'EDQUOT', `${opcode}: the server’s word`);
    }
    await client.chmod({ path, mode: 0o604 });
    t.is((await client.lstat({ path: fuse.backing('special') })).mode & 0o7777, 0o604, 'a mode that was set');
  });
}

guestTest('a directory that is found in itself is ELOOP, looked up or made', async (t, guest) => {
  await using fuse = await guest.mountFuse({ entryValidS: LONG });
  await using client = await guest.client();
  await client.mkdir({ path: fuse.backing('d') });
  await client.mkdir({ path: fuse.backing('d/e') });
  await client.stat({ path: fuse.file('d') });
  const itself = { do: 'patch', at: ENTRY.nodeid, bytes: u64(BigInt(await fuse.nodeid('/d'))) } as const;
  await fuse.rule({ match: { opcode: 'LOOKUP', path: '/d/e' }, times: 1, action: itself });
  t.is(await client.errno.stat({ path: fuse.file('d/e') }), 'ELOOP', 'looked up');
  await fuse.rule({ match: { opcode: 'MKDIR', path: '/d/made' }, times: 1, action: itself });
  t.is(await client.errno.mkdir({ path: fuse.file('d/made') }), 'ELOOP', 'made');
  t.is(await client.errno.stat({ path: fuse.file('d/e') }), 'ok', 'the next answer, which is right');
  t.is(await client.errno.stat({ path: fuse.file('d/made') }), 'ok');
});

guestTest(
  'a directory that the server says it has made, and that has a name already, has the new name',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    await client.mkdir({ path: fuse.backing('old') });
    const once = { do: 'patch', at: ENTRY.entryValid, bytes: u64(0n) } as const;
    await fuse.rule({ match: { opcode: 'LOOKUP', path: '/old' }, times: 1, action: once });
    const fd = await client.open({ path: fuse.file('old'), flags: 'O_RDONLY|O_DIRECTORY' });
    const bytes = u64(BigInt(await fuse.nodeid('/old')));
    await fuse.rule({
      match: { opcode: 'MKDIR', path: '/new' },
      action: { do: 'patch', at: ENTRY.nodeid, bytes },
    });
    await client.mkdir({ path: fuse.file('new') });
    const path = `/proc/${client.pid}/fd/${fd}`;
    t.is(await client.readlink({ path }), fuse.file('new'), 'what is open has the new name');
    const after = await fuse.position();
    t.is(await client.errno.stat({ path: fuse.file('new') }), 'ok');
    t.deepEqual(
      await fuse.opcodes({ opcode: 'LOOKUP', after }),
      [],
      'which counts as long as its answer said',
    );
    await client.close({ fd });
  },
);

guestTest(
  'a directory that is found by another name is opened by that, and is the same',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    for (const name of ['old', 'new', 'newer']) await client.mkdir({ path: fuse.backing(name) });
    const fd = await client.open({ path: fuse.file('old'), flags: 'O_RDONLY|O_DIRECTORY' });
    const bytes = u64(BigInt(await fuse.nodeid('/old')));
    const found = (path: string): Promise<unknown> =>
      fuse.rule({ match: { opcode: 'LOOKUP', path }, action: { do: 'patch', at: ENTRY.nodeid, bytes } });
    await found('/new');
    const again = await client.open({ path: fuse.file('new'), flags: 'O_RDONLY|O_DIRECTORY' });
    const names = async (): Promise<string[]> =>
      Promise.all([fd, again].map((each) => client.readlink({ path: `/proc/${client.pid}/fd/${each}` })));
    t.deepEqual(await names(), [fuse.file('new'), fuse.file('new')], 'one directory, with one name');
    await found('/newer');
    const create = { path: fuse.file('newer'), flags: 'O_RDWR|O_CREAT' };
    t.is(await client.errno.open(create), 'EISDIR', 'an open that would create finds it as well');
    t.deepEqual(await names(), [fuse.file('newer'), fuse.file('newer')], 'again with one name');
    for (const each of [fd, again]) await client.close({ fd: each });
  },
);

guestTest('a file that has no name, as the server says, loses one all the same', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await file(client, fuse, 'f');
  const bytes = u32(0);
  await fuse.rule({
    match: { opcode: 'LOOKUP' },
    action: { do: 'patch', at: ENTRY.attr + ATTR.nlink, bytes },
  });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  t.is(await client.errno.unlink({ path: fuse.file('f') }), 'ok');
  t.is((await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).nlink, 0, 'and has none then');
  await client.close({ fd });
});

guestTest(
  'what the server answers to OPENDIR, and to MKNOD for CREATE, is what open gives',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.mkdir({ path: fuse.backing('d') });
    await fuse.fail('OPENDIR', 'ENFILE', 1);
    const directory = { path: fuse.file('d'), flags: 'O_RDONLY|O_DIRECTORY' };
    t.is(await client.errno.open(directory), 'ENFILE', 'OPENDIR');
    t.is(await client.errno.open(directory), 'ok', 'OPENDIR, the next time');
    await fuse.fail('CREATE', 'ENOSYS');
    await fuse.fail('MKNOD', 'EDQUOT', 1);
    const made = { path: fuse.file('made'), flags: 'O_RDWR|O_CREAT' };
    const after = await fuse.position();
    t.is(await client.errno.open(made), 'EDQUOT', 'MKNOD');
    t.deepEqual(await fuse.opcodes({ opcode: ['CREATE', 'MKNOD', 'OPEN'], after }), ['CREATE', 'MKNOD']);
    t.is(await client.errno.open(made), 'ok', 'MKNOD, the next time');
  },
);

guestTest(
  'a rename with flags is asked of a server of version 7.23, and not of one before',
  async (t, guest) => {
    for (const [minor, errno, asks] of [
      [22, 'EINVAL', []],
      [23, 'ok', ['RENAME2']],
    ] as const) {
      await using fuse = await guest.mountFuse({ passthrough: 'off', init: { minor } });
      await using client = await guest.client();
      await file(client, fuse, 'f');
      const [from, to] = [fuse.file('f'), fuse.file('g')];
      t.is(await client.errno.rename({ from, to, flags: 'RENAME_NOREPLACE' }), errno, `7.${minor}`);
      t.deepEqual(await fuse.opcodes({ opcode: ['RENAME', 'RENAME2'] }), asks, `7.${minor}`);
    }
  },
);

guestTest(
  'a symbolic link in the middle of a path is followed while names count, and asked for each time',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    await client.mkdir({ path: fuse.backing('d') });
    await file(client, fuse, 'd/f');
    await client.symlink({ target: 'd', path: fuse.backing('l') });
    for (const time of ['first', 'second', 'third']) {
      t.is((await client.stat({ path: fuse.file('l/f') })).size, 'd/f'.length, `the ${time} time`);
    }
    t.is((await fuse.requests('READLINK')).length, 3, 'READLINK');
    t.is((await fuse.requests('LOOKUP')).length, 3, 'LOOKUP');
  },
);

guestTest(
  'a 32-bit program opens what is larger than its offsets, made or a directory, only with O_LARGEFILE',
  async (t, guest) => {
    await needs32Bit(guest);
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.mkdir({ path: fuse.backing('d') });
    const size = { do: 'patch', at: ENTRY.attr + ATTR.size, bytes: u64(LARGE) } as const;
    await fuse.rule({ match: { opcode: ['CREATE', 'LOOKUP'] }, action: size });
    const opened = (name: string, flags: number): Promise<number> =>
      open32(guest, client, fuse.file(name), flags);
    t.is(await opened('made', O_RDWR | O_CREAT), -EOVERFLOW, 'a file that is made');
    await fuse.waitFor('RELEASE');
    t.true((await opened('made too', O_RDWR | O_CREAT | O_LARGEFILE)) >= 0, 'a file that is made, with it');
    t.is(await opened('d', O_DIRECTORY), -EOVERFLOW, 'a directory');
    t.deepEqual(await fuse.opcodes('OPENDIR'), [], 'the server is not asked');
    t.true((await opened('d', O_DIRECTORY | O_LARGEFILE)) >= 0, 'a directory, with it');
  },
);
