import { pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { ATTR, ATTR_OUT, entryAnswer, u32 } from '../lib/entry-answer.ts';
import type { OpcodeName } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What the kernel remembers of names and attributes while a file is open in passthrough mode. */

/** Longer than any test. Seconds. */
const LONG = 100_000;

/** What the kernel asks the server for a call. */
async function askedFor(fuse: FuseMount, call: () => Promise<unknown>): Promise<string[]> {
  const after = await fuse.position();
  await call();
  return fuse.opcodes({ after });
}

/** How long names and attributes count, and what stat of a path and of an open file ask then. */
const VALIDITIES: readonly {
  readonly entryValidS: number;
  readonly attrValidS: number;
  readonly path: readonly OpcodeName[];
  readonly open: readonly OpcodeName[];
}[] = [
  { entryValidS: 0, attrValidS: 0, path: ['LOOKUP', 'GETATTR'], open: ['GETATTR'] },
  { entryValidS: 0, attrValidS: LONG, path: ['LOOKUP'], open: [] },
  { entryValidS: LONG, attrValidS: 0, path: ['GETATTR'], open: ['GETATTR'] },
  { entryValidS: LONG, attrValidS: LONG, path: [], open: [] },
];

for (const { entryValidS, attrValidS, path, open } of VALIDITIES) {
  guestTest(
    `a name that counts ${entryValidS} s and attributes that count ${attrValidS} s are asked for when they do not (A40)`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ entryValidS, attrValidS });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      for (const time of ['first', 'second']) {
        const stat = (): Promise<unknown> => client.stat({ path: fuse.file('f') });
        t.deepEqual(await askedFor(fuse, stat), path, `stat of the path, the ${time} time`);
        const fstat = (): Promise<unknown> => client.fstat({ fd });
        t.deepEqual(await askedFor(fuse, fstat), open, `stat of the open file, the ${time} time`);
      }
      await client.close({ fd });
    },
  );
}

interface Change {
  readonly call: (client: Client, fuse: FuseMount, fd: number) => Promise<unknown>;
  /** What the call itself asks. */
  readonly sends: readonly string[];
  /** Whose attributes are asked for again: those of the open file, of the directory. */
  readonly stale: readonly ('file' | 'directory')[];
}

/** In this order: each finds the names as the one before has left them. */
const CHANGES: Readonly<Record<string, Change>> = {
  link: {
    call: (client, fuse) => client.link({ from: fuse.file('f'), to: fuse.file('g') }),
    sends: ['LOOKUP', 'LINK'],
    stale: ['directory'],
  },
  rename: {
    call: (client, fuse) => client.rename({ from: fuse.file('g'), to: fuse.file('h') }),
    sends: ['LOOKUP', 'RENAME'],
    stale: ['file', 'directory'],
  },
  'rename to a name that there is, with NOREPLACE': {
    call: (client, fuse) => {
      const [from, to] = [fuse.file('h'), fuse.file('f')];
      return client.errno.rename({ from, to, flags: 'RENAME_NOREPLACE' });
    },
    sends: ['LOOKUP'],
    stale: [],
  },
  mkdir: {
    call: (client, fuse) => client.mkdir({ path: fuse.file('d') }),
    sends: ['LOOKUP', 'MKDIR'],
    stale: ['directory'],
  },
  'rename with EXCHANGE': {
    call: (client, fuse) => {
      const [from, to] = [fuse.file('h'), fuse.file('d')];
      return client.rename({ from, to, flags: 'RENAME_EXCHANGE' });
    },
    sends: ['RENAME2'],
    stale: ['file', 'directory'],
  },
  'unlink of another name': {
    call: (client, fuse) => client.unlink({ path: fuse.file('d') }),
    sends: ['UNLINK'],
    stale: ['file', 'directory'],
  },
  rmdir: {
    call: async (client, fuse) => {
      await client.rmdir({ path: fuse.file('h') });
      await fuse.waitFor({ opcode: ['FORGET', 'BATCH_FORGET'] }, 'arrived');
    },
    sends: ['RMDIR', 'FORGET'],
    stale: ['directory'],
  },
  chmod: {
    call: (client, fuse) => client.chmod({ path: fuse.file('f'), mode: 0o600 }),
    sends: ['SETATTR'],
    stale: [],
  },
  setxattr: {
    call: (client, fuse) => client.setxattr({ path: fuse.file('f'), name: 'user.x', data: 'v' }),
    sends: ['SETXATTR'],
    stale: ['file'],
  },
  removexattr: {
    call: (client, fuse) => client.removexattr({ path: fuse.file('f'), name: 'user.x' }),
    sends: ['REMOVEXATTR'],
    stale: ['file'],
  },
  write: {
    call: (client, _fuse, fd) => client.pwrite({ fd, data: 'x', offset: 0 }),
    sends: [],
    stale: ['file'],
  },
  fallocate: {
    call: (client, _fuse, fd) => client.fallocate({ fd, offset: 0, length: 4096 }),
    sends: ['FALLOCATE'],
    stale: ['file'],
  },
  'fallocate that keeps the size': {
    call: (client, _fuse, fd) =>
      client.fallocate({ fd, mode: 'FALLOC_FL_KEEP_SIZE', offset: 0, length: 8192 }),
    sends: ['FALLOCATE'],
    stale: ['file'],
  },
  symlink: {
    call: (client, fuse) => client.symlink({ target: 'f', path: fuse.file('s') }),
    sends: ['LOOKUP', 'SYMLINK'],
    stale: ['directory'],
  },
  readlink: {
    call: (client, fuse) => client.readlink({ path: fuse.file('s') }),
    sends: ['READLINK'],
    stale: [],
  },
  'stat of a name that there is not': {
    call: (client, fuse) => client.errno.stat({ path: fuse.file('none') }),
    sends: ['LOOKUP'],
    stale: [],
  },
};

guestTest(
  'what a call may have changed is asked for again, and nothing else is, beside an open passthrough file (A40, A41)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern(10) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    // Once told, no write asks for capabilities of the file any more. Not every generation does.
    await fuse.fail('GETXATTR', 'ENOSYS');
    await client.fallocate({ fd, offset: 0, length: 4096 });
    const look = { file: () => client.fstat({ fd }), directory: () => client.stat({ path: fuse.path }) };
    for (const [what, { call, sends, stale }] of Object.entries(CHANGES)) {
      for (const each of Object.values(look)) await each();
      t.deepEqual(await askedFor(fuse, () => call(client, fuse, fd)), sends, `${what}: what it sends`);
      for (const [whose, each] of Object.entries(look)) {
        const expected = stale.includes(whose as keyof typeof look) ? ['GETATTR'] : [];
        t.deepEqual(await askedFor(fuse, each), expected, `${what}: the attributes of the ${whose}`);
      }
    }
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'names that are exchanged are known without a LOOKUP, and open files stay theirs (C9)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    for (const name of ['one', 'other']) await client.writeFile({ path: fuse.backing(name), data: 'xyz' });
    const [one, other] = [fuse.file('one'), fuse.file('other')];
    const fd = await client.open({ path: one, flags: 'O_RDWR' });
    const number = async (path: string): Promise<number> => (await client.stat({ path })).ino;
    const [first, second] = [await number(one), await number(other)];
    const after = await fuse.position();
    await client.rename({ from: one, to: other, flags: 'RENAME_EXCHANGE' });
    const [request] = await fuse.requests({ opcode: ['RENAME', 'RENAME2'], after });
    t.like(request, { opcode: 'RENAME2', args: { flags: 2, name: 'one', newName: 'other' } });
    t.is(await number(other), first);
    t.is(await number(one), second);
    t.deepEqual(await fuse.requests({ opcode: 'LOOKUP', after }), []);
    await client.pwrite({ fd, data: 'ONE', offset: 0 });
    t.is(text(await client.readFile({ path: fuse.backing('other') })), 'ONE');

    const takeBack = await fuse.fail('RENAME2', 'ENOSYS');
    for (const time of ['first', 'second']) {
      const exchange = { from: one, to: other, flags: 'RENAME_EXCHANGE' };
      t.is(await client.errno.rename(exchange), 'EINVAL', `a server without RENAME2, the ${time} time`);
    }
    await takeBack();
    t.is(
      (await fuse.requests({ opcode: 'RENAME2', after })).length,
      2,
      'it is asked once more and never again',
    );
    await client.rename({ from: one, to: fuse.file('third') });
    t.is((await fuse.requests({ opcode: 'RENAME', after })).length, 1, 'without flags RENAME will do');
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('that a name is not there counts as long as the server says, but for O_EXCL', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  for (const [validS, asked] of [
    [0, ['LOOKUP']],
    [LONG, []],
  ] as const) {
    const name = `none-${validS}`;
    const takeBack = await fuse.rule({
      match: { opcode: 'LOOKUP', path: `/${name}` },
      action: { do: 'body', body: entryAnswer({ nodeid: 0n, entryValidS: validS }) },
    });
    const stat = () => client.errno.stat({ path: fuse.file(name) });
    t.is(await stat(), 'ENOENT');
    t.deepEqual(await askedFor(fuse, stat), asked, `after an answer that counts ${validS} s`);
    await takeBack();
    await client.writeFile({ path: fuse.backing(name), data: 'is there now' });
    t.is(await stat(), validS === 0 ? 'ok' : 'ENOENT', `made behind the kernel, after ${validS} s`);
    const exclusive = { path: fuse.file(name), flags: 'O_RDWR|O_CREAT|O_EXCL' };
    t.is(await client.errno.open(exclusive), 'EEXIST', `O_EXCL looks again, after ${validS} s`);
  }
});

guestTest(
  'a name that was removed is asked for when it is wanted again, and the link is not counted any more (C8, C9)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await client.link({ from: fuse.backing('f'), to: fuse.backing('g') });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    const links = async (): Promise<number> =>
      (await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).nlink;
    t.is(await links(), 2);
    await client.unlink({ path: fuse.file('g') });
    t.is(await links(), 1, 'without asking');
    await client.unlink({ path: fuse.file('f') });
    t.is(await links(), 0);
    for (const name of ['f', 'g']) {
      await client.writeFile({ path: fuse.backing(name), data: 'made behind FUSE' });
      t.is(
        (await client.stat({ path: fuse.file(name) })).size,
        16,
        `under the name that was removed: ${name}`,
      );
    }
    await client.close({ fd });
  },
);

guestTest(
  'a directory that was removed or replaced has no link left, and the server is not asked for it (C8, C9)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    for (const name of ['removed', 'replaced', 'other']) await client.mkdir({ path: fuse.backing(name) });
    const [removed, replaced] = [fuse.file('removed'), fuse.file('replaced')];
    for (const [path, call] of [
      [removed, () => client.rmdir({ path: removed })],
      [replaced, () => client.rename({ from: fuse.file('other'), to: replaced })],
    ] as const) {
      const fd = await client.open({ path, flags: 'O_RDONLY|O_DIRECTORY' });
      const links = async (): Promise<number> =>
        (await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).nlink;
      t.is(await links(), 2, path);
      await call();
      t.is(await links(), 0, `${path}: no name, and none in it`);
      await client.close({ fd });
    }
  },
);

guestTest(
  'a name that the server has though the kernel thought not is looked up after EEXIST',
  async (t, guest) => {
    guest.needs(guest.expected.hasIoModes, 'second look at a name after EEXIST, which came after 6.1');
    await using fuse = await guest.mountFuse({ attrValidS: LONG });
    await using client = await guest.client();
    const absent = entryAnswer({ nodeid: 0n, entryValidS: LONG });
    for (const [what, make] of Object.entries({
      mkdir: (path: string) => client.errno.mkdir({ path }),
      'open with O_CREAT': (path: string) => client.errno.open({ path, flags: 'O_RDWR|O_CREAT' }),
    })) {
      const name = what.replaceAll(' ', '-');
      const match = { opcode: 'LOOKUP', path: `/${name}` } as const;
      const takeBack = await fuse.rule({ match, action: { do: 'body', body: absent } });
      t.is(
        await client.errno.stat({ path: fuse.file(name) }),
        'ENOENT',
        `${what}: the kernel knows that it is not there`,
      );
      await client.mkdir({ path: fuse.backing(name) });
      const refused = await fuse.fail({ opcode: ['MKDIR', 'CREATE'] }, 'EPERM');
      t.is(await make(fuse.file(name)), 'EPERM', `${what}: refused`);
      await refused();
      const after = await fuse.position();
      t.is(await client.errno.stat({ path: fuse.file(name) }), 'ENOENT', `${what}: refused, and as before`);
      t.deepEqual(
        await fuse.opcodes({ opcode: 'LOOKUP', after }),
        [],
        `${what}: refused, and nobody is asked`,
      );
      const exists = await fuse.fail({ opcode: ['MKDIR', 'CREATE'] }, 'EEXIST');
      t.is(await make(fuse.file(name)), 'EEXIST', what);
      await exists();
      await takeBack();
      t.is(await client.errno.stat({ path: fuse.file(name) }), 'ok', `${what}: and then knows better`);
    }
  },
);

guestTest('the block size that stat tells is the server’s', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  for (const [said, told] of [
    [65_536, 65_536],
    [512, 512],
    // What is no power of two is told as the next below.
    [3000, 2048],
    // A server that says nothing gets that of the mount.
    [0, 4096],
  ] as const) {
    await fuse.rule({
      match: { opcode: 'GETATTR' },
      action: { do: 'patch', at: ATTR_OUT.attr + ATTR.blksize, bytes: u32(said) },
    });
    t.is((await client.fstat({ fd })).blksize, told, `the server says ${said}`);
  }
  await client.close({ fd });
});
