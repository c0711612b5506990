import { concat } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { OpcodeName } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { ENTRY, u32, u64 } from '../lib/entry-answer.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';

/** What the kernel makes of names and attributes that it believes, when a name is made, moved or replaced. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
const BELIEVED = { entryValidS: LONG, attrValidS: LONG } as const;

async function askedFor(fuse: FuseMount, call: () => Promise<unknown>): Promise<string[]> {
  const after = await fuse.position();
  await call();
  return fuse.opcodes({ after });
}

/** What `lstat` of each name asks; each is known before. */
async function stale(
  fuse: FuseMount,
  client: Client,
  names: readonly string[],
): Promise<Record<string, readonly string[]>> {
  const asked: Record<string, readonly string[]> = {};
  for (const name of names) {
    asked[name] = await askedFor(fuse, () => client.lstat({ path: fuse.file(name) }));
  }
  return asked;
}

guestTest(
  'a rename to another directory makes the attributes of both directories stale, one within a directory those of it alone (C9)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(BELIEVED);
    await using client = await guest.client();
    for (const name of ['a', 'b']) await client.mkdir({ path: fuse.backing(name) });
    await client.writeFile({ path: fuse.backing('a/f'), data: 'contents' });
    for (const [from, to, expected] of [
      ['a/f', 'a/g', { a: ['GETATTR'], b: [] }],
      ['a/g', 'b/g', { a: ['GETATTR'], b: ['GETATTR'] }],
    ] as const) {
      await stale(fuse, client, ['a', 'b']);
      await client.rename({ from: fuse.file(from), to: fuse.file(to) });
      t.deepEqual(await stale(fuse, client, ['a', 'b']), expected, `${from} to ${to}`);
    }
  },
);

guestTest(
  'a file that another is renamed over has a link less without asking, and one that is exchanged has not (C9)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(BELIEVED);
    await using client = await guest.client();
    for (const name of ['one', 'other']) await client.writeFile({ path: fuse.backing(name), data: name });
    await client.link({ from: fuse.backing('other'), to: fuse.backing('link') });
    const fd = await client.open({ path: fuse.file('other'), flags: 'O_RDONLY' });
    const links = async (): Promise<number> =>
      (await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).nlink;
    const fstat = (): Promise<unknown> => client.fstat({ fd });
    await fstat();
    t.is(await links(), 2);
    const pair = { from: fuse.file('one'), to: fuse.file('other') };
    await client.rename({ ...pair, flags: 'RENAME_EXCHANGE' });
    t.is(await links(), 2, 'exchanged: it has all its names');
    t.deepEqual(await askedFor(fuse, fstat), ['GETATTR'], 'exchanged: its ctime is asked for');
    await client.rename({ from: fuse.file('other'), to: fuse.file('one') });
    t.is(await links(), 1, 'replaced: one name is gone');
    t.deepEqual(await askedFor(fuse, fstat), ['GETATTR'], 'replaced: its ctime is asked for');
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

/** Calls on names that there are, and the names that are looked up again when nobody knows what came of it. */
const UNCERTAIN: Readonly<
  Record<
    string,
    {
      readonly opcode: OpcodeName;
      readonly make: (client: Client, fuse: FuseMount) => Promise<string>;
      readonly names: Readonly<Record<string, string>>;
    }
  >
> = {
  unlink: {
    opcode: 'UNLINK',
    make: (client, fuse) => client.errno.unlink({ path: fuse.file('f') }),
    names: { f: 'ENOENT' },
  },
  rmdir: {
    opcode: 'RMDIR',
    make: (client, fuse) => client.errno.rmdir({ path: fuse.file('d') }),
    names: { d: 'ENOENT' },
  },
  rename: {
    opcode: 'RENAME',
    make: (client, fuse) => client.errno.rename({ from: fuse.file('g'), to: fuse.file('h') }),
    names: { g: 'ENOENT', h: 'ok' },
  },
};

/** Each call is done by the server, which says that it failed; or is refused by it. */
async function looksAgain(
  guest: TestGuest,
  errno: string,
  refused = false,
): Promise<[seen: unknown, expected: unknown]> {
  await using fuse = await guest.mountFuse(BELIEVED);
  await using client = await guest.client();
  for (const name of ['f', 'g', 'h']) await client.writeFile({ path: fuse.backing(name), data: name });
  await client.mkdir({ path: fuse.backing('d') });
  const seen: Record<string, unknown> = {};
  const expected: Record<string, unknown> = {};
  for (const [what, { opcode, make, names }] of Object.entries(UNCERTAIN)) {
    for (const name of Object.keys(names)) await client.stat({ path: fuse.file(name) });
    await fuse.rule({ match: { opcode }, action: { do: refused ? 'error' : 'work-then-error', errno } });
    seen[what] = await make(client, fuse);
    expected[what] = errno;
    for (const [name, outcome] of Object.entries(names)) {
      const after = await fuse.position();
      const told = await client.errno.stat({ path: fuse.file(name) });
      seen[`${what}: ${name}`] = [told, await fuse.opcodes({ opcode: 'LOOKUP', after })];
      expected[`${what}: ${name}`] = refused ? ['ok', []] : [outcome, ['LOOKUP']];
    }
  }
  return [seen, expected];
}

guestTest(
  'names are looked up again after a call that the server was interrupted in: it may have done it (C9)',
  async (t, guest) => {
    t.deepEqual(...(await looksAgain(guest, 'EINTR')));
  },
);

guestTest(
  'names are looked up again after a call on one that the server does not have any more (C9)',
  async (t, guest) => {
    guest.needs(guest.expected.hasIoModes, 'second look at a name after ENOENT, which came after 6.1');
    t.deepEqual(...(await looksAgain(guest, 'ENOENT')));
  },
);

guestTest('names are still known after a call on them that the server refused (C9)', async (t, guest) => {
  t.deepEqual(...(await looksAgain(guest, 'EPERM', true)));
});

guestTest(
  'a file that open has made is known by its name, and its directory is asked for again (A40)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(BELIEVED);
    await using client = await guest.client();
    await client.mkdir({ path: fuse.backing('d') });
    await stale(fuse, client, ['d']);
    const fd = await client.open({ path: fuse.file('d/f'), flags: 'O_RDWR|O_CREAT' });
    t.deepEqual(await fuse.opcodes('CREATE'), ['CREATE']);
    t.deepEqual(await stale(fuse, client, ['d', 'd/f']), { d: ['GETATTR'], 'd/f': [] });
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'a directory whose mode was changed is looked up again, by its name and once (A40)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(BELIEVED);
    await using client = await guest.client();
    await client.mkdir({ path: fuse.backing('d') });
    await client.writeFile({ path: fuse.backing('f'), data: '' });
    await stale(fuse, client, ['d', 'f']);
    for (const name of ['d', 'f']) await client.chown({ path: fuse.file(name), uid: 1, gid: 1 });
    t.deepEqual(await stale(fuse, client, ['d', 'f']), { d: [], f: [] }, 'another owner');
    for (const name of ['d', 'f']) await client.chmod({ path: fuse.file(name), mode: 0o700 });
    t.deepEqual(await stale(fuse, client, ['d', 'f']), { d: ['LOOKUP'], f: [] }, 'another mode');
    t.deepEqual(await stale(fuse, client, ['d', 'f']), { d: [], f: [] }, 'the answer counts again');
  },
);

guestTest('a name that is looked up again brings the attributes with it (A40)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ entryValidS: 0, attrValidS: LONG });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  t.is((await client.stat({ path: fuse.file('f') })).size, 8);
  await client.writeFile({ path: fuse.backing('f'), data: ' and more', flags: 'O_WRONLY|O_APPEND' });
  t.is((await client.stat({ path: fuse.file('f') })).size, 17, 'as the server has it now');
  t.deepEqual(await fuse.opcodes({ opcode: ['LOOKUP', 'GETATTR'] }), ['LOOKUP', 'LOOKUP'], 'by LOOKUP alone');
});

guestTest(
  'a name that leads to another file now gives back the lookup that found this out, and keeps its own (C10, C14)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ entryValidS: 0, attrValidS: LONG });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'old' });
    // The old file stays, so that nothing else is forgotten.
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    await client.writeFile({ path: fuse.backing('new'), data: 'another' });
    await client.rename({ from: fuse.backing('new'), to: fuse.backing('f') });
    const after = await fuse.position();
    t.is((await client.stat({ path: fuse.file('f') })).size, 7);
    const forget = await fuse.waitFor({ opcode: ['FORGET', 'BATCH_FORGET'], after }, 'arrived');
    t.like(forget, { opcode: 'FORGET', args: { nlookup: 1 } });
    t.deepEqual(await fuse.opcodes({ opcode: 'LOOKUP', after }), ['LOOKUP', 'LOOKUP']);
    const known = (await fuse.state()).inodes.find(({ path }) => path === '/f');
    t.is(known?.lookups, 1, 'of two lookups one is left');
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'where a symbolic link leads is asked each time, unless the server lets it be kept (CACHE_SYMLINKS)',
  async (t, guest) => {
    for (const [options, atime, again] of [
      [{}, ['GETATTR'], ['READLINK']],
      [{ init: { addFlags: ['CACHE_SYMLINKS'] } }, ['GETATTR'], []],
      [{ flags: 'MS_RDONLY' }, [], ['READLINK']],
    ] as const) {
      const what = `with ${JSON.stringify(options)}`;
      await using fuse = await guest.mountFuse({ ...BELIEVED, ...options });
      await using client = await guest.client();
      await client.symlink({ target: 'over/there', path: fuse.backing('s') });
      const lstat = () => client.lstat({ path: fuse.file('s') });
      const readlink = async () => {
        t.is(await client.readlink({ path: fuse.file('s') }), 'over/there');
      };
      await lstat();
      t.deepEqual(await askedFor(fuse, readlink), ['READLINK'], `${what}: the first time`);
      t.deepEqual(await askedFor(fuse, lstat), atime, `${what}: its access time may be another`);
      t.deepEqual(await askedFor(fuse, readlink), again, `${what}: the second time`);
    }
  },
);

/** Calls on the name `f`, which is believed, and what they ask. */
const LOOKS: Readonly<
  Record<string, readonly [(client: Client, fuse: FuseMount) => Promise<string>, string, string[]]>
> = {
  'mkdir, which must not find it': [
    (client, fuse) => client.errno.mkdir({ path: fuse.file('f') }),
    'EEXIST',
    ['LOOKUP'],
  ],
  'open with O_EXCL, which must not find it': [
    (client, fuse) => client.errno.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT|O_EXCL' }),
    'EEXIST',
    ['LOOKUP'],
  ],
  'rename over it': [
    (client, fuse) => client.errno.rename({ from: fuse.file('g'), to: fuse.file('f') }),
    'ok',
    ['LOOKUP', 'RENAME'],
  ],
  'rename of it': [
    (client, fuse) => client.errno.rename({ from: fuse.file('f'), to: fuse.file('new') }),
    'ok',
    ['LOOKUP', 'RENAME'],
  ],
};

guestTest(
  'a name that is believed is looked up all the same by who must not find it, and by who replaces it (C9)',
  async (t, guest) => {
    for (const [what, [call, errno, asks]] of Object.entries(LOOKS)) {
      await using fuse = await guest.mountFuse(BELIEVED);
      await using client = await guest.client();
      for (const name of ['f', 'g']) {
        await client.writeFile({ path: fuse.backing(name), data: name });
        await client.lstat({ path: fuse.file(name) });
      }
      const after = await fuse.position();
      const told = await call(client, fuse);
      const asked = await fuse.opcodes({ opcode: ['LOOKUP', 'MKDIR', 'CREATE', 'OPEN', 'RENAME'], after });
      t.deepEqual([told, asked], [errno, asks], what);
    }
  },
);

guestTest(
  'a call that the server calls stale is made once more, with the name looked up anew',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(BELIEVED);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const stat = () => client.stat({ path: fuse.file('f'), flags: 'AT_STATX_FORCE_SYNC' });
    await stat();
    t.deepEqual(await askedFor(fuse, stat), ['GETATTR'], 'without an error');
    await fuse.fail('GETATTR', 'ESTALE', 1);
    t.deepEqual(await askedFor(fuse, stat), ['GETATTR', 'LOOKUP', 'GETATTR'], 'after ESTALE');
  },
);

/** Calls that change attributes of `f`. */
const CHANGES: Readonly<
  Record<string, { opcode: OpcodeName; call: (client: Client, fuse: FuseMount) => Promise<string> }>
> = {
  link: {
    opcode: 'LINK',
    call: (client, fuse) => client.errno.link({ from: fuse.file('f'), to: fuse.file('g') }),
  },
  chmod: {
    opcode: 'SETATTR',
    call: (client, fuse) => client.errno.chmod({ path: fuse.file('f'), mode: 0o600 }),
  },
};

guestTest(
  'attributes are asked for again after a change that the server was interrupted in, and not after one that it refused (A40)',
  async (t, guest) => {
    for (const [what, { opcode, call }] of Object.entries(CHANGES)) {
      await using fuse = await guest.mountFuse(BELIEVED);
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      const lstat = (): Promise<unknown> => client.lstat({ path: fuse.file('f') });
      await lstat();
      for (const [errno, asks] of [
        ['EPERM', []],
        ['EINTR', ['GETATTR']],
      ] as const) {
        await fuse.fail(opcode, errno, 1);
        t.is(await call(client, fuse), errno, what);
        t.deepEqual(await askedFor(fuse, lstat), asks, `${what}: after ${errno}`);
      }
    }
  },
);

guestTest('a name whose node has another generation now is another file', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off', entryValidS: 0, attrValidS: LONG });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  t.deepEqual(await askedFor(fuse, () => client.stat({ path: fuse.file('f') })), ['LOOKUP'], 'the same file');
  const next = { do: 'patch', at: ENTRY.generation, bytes: u64(7n) } as const;
  await fuse.rule({ match: { opcode: 'LOOKUP' }, action: next });
  await client.stat({ path: fuse.file('f') });
  t.is(await client.errno.fstat({ fd }), 'EIO', 'the file of before is not what the server means any more');
  t.is(await client.errno.stat({ path: fuse.file('f') }), 'ok', 'the one of now is');
  await client.errno.close({ fd });
});

guestTest(
  'attributes that were asked for again are believed for as long as they say now',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(BELIEVED);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    // Seconds of the attributes, nanoseconds of the name and of the attributes: they are good for a millisecond.
    const bytes = concat(u64(0n), u32(0), u32(1_000_000));
    await fuse.rule({ match: { opcode: 'LOOKUP' }, action: { do: 'patch', at: ENTRY.attrValid, bytes } });
    const path = fuse.file('f');
    await client.stat({ path });
    const asked = await eventually(
      () => askedFor(fuse, () => client.stat({ path })),
      (opcodes) => opcodes.length > 0,
    );
    t.deepEqual(asked, ['GETATTR'], 'when they have expired');
    t.deepEqual(await askedFor(fuse, () => client.stat({ path })), [], 'and not again');
  },
);
