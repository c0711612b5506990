import { bytes, concat } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { ATTR, ATTR_OUT, ENTRY, entryAnswer, u32, u64 } from '../lib/entry-answer.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What an answer to READDIRPLUS makes of names that the kernel knows already, or cannot know. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
const [DIRECTORY, REGULAR] = [0o040_755, 0o100_644];
const BELIEVED = {
  passthrough: 'off',
  init: { dropFlags: ['READDIRPLUS_AUTO'] },
  entryValidS: LONG,
  attrValidS: LONG,
} as const;

interface Entry {
  readonly name: string;
  readonly nodeid: bigint;
  readonly generation?: bigint;
  /** Default: what no file has. */
  readonly mode?: number;
}

/** `fuse_direntplus`: the entry as LOOKUP has it, then the name; the next one is at `offset`. */
function plus({ name, nodeid, generation = 0n, mode = 0o644 }: Entry, offset: number): Uint8Array {
  const entry = entryAnswer({ nodeid, entryValidS: LONG });
  entry.set(u64(generation), ENTRY.generation);
  entry.set(u64(BigInt(LONG)), ENTRY.attrValid);
  entry.set(u64(nodeid), ENTRY.attr + ATTR.ino);
  entry.set(u32(mode), ENTRY.attr + ATTR.mode);
  entry.set(u32(1), ENTRY.attr + ATTR.nlink);
  const head = concat(u64(nodeid), u64(BigInt(offset)), u32(name.length), u32((mode & 0o170_000) >> 12));
  return concat(entry, head, bytes(name), new Uint8Array((8 - (name.length % 8)) % 8));
}

/** Lists the directory, whose server answers just that, once. */
async function listed(
  client: Client,
  fuse: FuseMount,
  path: string,
  entries: readonly Entry[],
): Promise<string[]> {
  const match = { opcode: 'READDIRPLUS' } as const;
  const last = await fuse.rule({ match, action: { do: 'body', body: new Uint8Array() } });
  const body = concat(...entries.map((entry, nth) => plus(entry, nth + 1)));
  const first = await fuse.rule({ match, times: 1, action: { do: 'body', body } });
  const fd = await client.open({ path, flags: 'O_RDONLY|O_DIRECTORY' });
  const names = await client.readdirFd({ fd, bytes: 4096 });
  await client.close({ fd });
  for (const takeBack of [first, last]) await takeBack();
  return names;
}

async function forgotten(fuse: FuseMount, after: number): Promise<unknown[]> {
  const sent = await fuse.requests({ opcode: 'FORGET', after });
  return sent.map(({ nodeid, args }) => [nodeid, args['nlookup']]);
}

guestTest(
  'of the two dots in a list nothing is taken, of names that begin with a dot all is',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(BELIEVED);
    await using client = await guest.client();
    const names = ['.', '..', '.a', '..a', '...', 'a.', 'b'];
    const after = await fuse.position();
    // Attributes that cannot be: what is taken of a name is given back at once.
    const entries = names.map((name, nth) => ({ name, nodeid: BigInt(700 + nth) }));
    t.deepEqual(await listed(client, fuse, fuse.path, entries), names);
    await fuse.waitFor({ opcode: 'FORGET', nodeid: 706, after }, 'arrived');
    t.deepEqual(
      await forgotten(fuse, after),
      [702, 703, 704, 705, 706].map((nodeid) => [nodeid, 1]),
      'given back',
    );
  },
);

guestTest('a name in a list with the number of the root is told, and given back', async (t, guest) => {
  await using fuse = await guest.mountFuse(BELIEVED);
  await using client = await guest.client();
  await client.mkdir({ path: fuse.backing('d') });
  const after = await fuse.position();
  const entries = [{ name: 'd', nodeid: 1n, mode: DIRECTORY }];
  t.deepEqual(await listed(client, fuse, fuse.path, entries), ['d']);
  await fuse.waitFor({ opcode: 'FORGET', after }, 'arrived');
  t.deepEqual(await forgotten(fuse, after), [[1, 1]], 'given back');
  t.is(await client.errno.stat({ path: fuse.file('d') }), 'ok');
  t.deepEqual(await fuse.opcodes({ opcode: 'LOOKUP', after }), ['LOOKUP'], 'nothing is known of it');
});

guestTest('a list ends before a name that has not come whole', async (t, guest) => {
  await using fuse = await guest.mountFuse(BELIEVED);
  await using client = await guest.client();
  const whole = plus({ name: 'a', nodeid: 700n, mode: REGULAR }, 1);
  const part = plus({ name: 'a-long-name-of-which-some-is-missing', nodeid: 701n, mode: REGULAR }, 2);
  for (const cut of [8, 40, 100]) {
    const body = concat(whole, part.subarray(0, part.length - cut));
    await fuse.rule({ match: { opcode: 'READDIRPLUS' }, action: { do: 'body', body } });
    const fd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    t.deepEqual(await client.readdirFd({ fd, bytes: 4096 }), ['a'], `${cut} bytes are missing`);
    await client.close({ fd });
  }
});

guestTest('a name that was not there is known by the list that has it', async (t, guest) => {
  await using fuse = await guest.mountFuse(BELIEVED);
  await using client = await guest.client();
  const body = entryAnswer({ nodeid: 0n, entryValidS: LONG });
  await fuse.rule({ match: { opcode: 'LOOKUP', path: '/f' }, times: 1, action: { do: 'body', body } });
  t.is(await client.errno.stat({ path: fuse.file('f') }), 'ENOENT');
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  t.is(await client.errno.stat({ path: fuse.file('f') }), 'ENOENT', 'that there is none is believed');
  t.deepEqual(await client.readdir({ path: fuse.path }), ['f']);
  const after = await fuse.position();
  t.is((await client.stat({ path: fuse.file('f') })).size, 8);
  t.deepEqual(await fuse.opcodes({ opcode: ['LOOKUP', 'GETATTR'], after }), [], 'nobody is asked');
});

/** What a list has of a file that is open, by what is wrong with it, and whether the open file is done for. */
const CHANGED: Readonly<Record<string, Partial<Entry> & { readonly bad: boolean }>> = {
  'as it was': { bad: false },
  'of another generation': { generation: 1n, bad: true },
  'a directory': { mode: DIRECTORY, bad: true },
};

guestTest(
  'an open file whose number a list gives to another file is one that cannot be',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [what, { bad, ...change }] of Object.entries(CHANGED)) {
      await using fuse = await guest.mountFuse(BELIEVED);
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
      const nodeid = BigInt(await fuse.nodeid('/f'));
      const entries = [{ name: 'f', nodeid, mode: REGULAR, ...change }];
      t.deepEqual(await listed(client, fuse, fuse.path, entries), ['f'], what);
      t.is(await client.errno.fstat({ fd }), bad ? 'EIO' : 'ok', `${what}: the open file`);
      // The kernel says of a file whose name it has dropped that it is deleted.
      const named = await client.readlink({ path: `/proc/${client.pid}/fd/${fd}` });
      t.is(named, `${fuse.file('f')}${bad ? ' (deleted)' : ''}`, `${what}: the name of the open file`);
      const after = await fuse.position();
      const { mode } = await client.lstat({ path: fuse.file('f') });
      t.is(mode, change.mode ?? REGULAR, `${what}: the name`);
      t.deepEqual(
        await fuse.opcodes({ opcode: ['LOOKUP', 'GETATTR'], after }),
        [],
        `${what}: nobody is asked`,
      );
      t.is(await client.errno.close({ fd }), bad ? 'EIO' : 'ok');
    }
  },
);

guestTest('a list gives back the lookup of a name whose file cannot be any more', async (t, guest) => {
  await using fuse = await guest.mountFuse(BELIEVED);
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  const nodeid = await fuse.nodeid('/f');
  const entries = [{ name: 'f', nodeid: BigInt(nodeid), mode: REGULAR }];
  const action = { do: 'patch', at: ATTR_OUT.attr + ATTR.mode, bytes: u32(DIRECTORY) } as const;
  await fuse.rule({ match: { opcode: 'GETATTR' }, times: 1, action });
  t.is(
    await client.errno.fstat({ fd, flags: 'AT_STATX_FORCE_SYNC' }),
    'EIO',
    'a file that became a directory',
  );
  const after = await fuse.position();
  t.deepEqual(await listed(client, fuse, fuse.path, entries), ['f']);
  await fuse.waitFor({ opcode: 'FORGET', nodeid, after }, 'arrived');
  t.deepEqual(await forgotten(fuse, after), [[nodeid, 1]], 'the one of the list');
  await client.errno.close({ fd });
});

guestTest('a directory that lists itself, or what it is in, is not believed', async (t, guest) => {
  await using fuse = await guest.mountFuse(BELIEVED);
  await using client = await guest.client();
  for (const path of ['d', 'd/e', 'd/e/x']) await client.mkdir({ path: fuse.backing(path) });
  // Twice each, because the kernel is not to find them; and once is given back each time below.
  for (const path of ['d', 'd/e']) {
    await client.stat({ path: fuse.file(path) });
    t.is(await client.errno.mkdir({ path: fuse.file(path) }), 'EEXIST');
  }
  for (const above of ['/d', '/d/e']) {
    const nodeid = await fuse.nodeid(above);
    const after = await fuse.position();
    const entries = [{ name: 'x', nodeid: BigInt(nodeid), mode: DIRECTORY }];
    t.deepEqual(await listed(client, fuse, fuse.file('d/e'), entries), ['x'], above);
    await fuse.waitFor({ opcode: 'FORGET', nodeid, after }, 'arrived');
    t.deepEqual(await forgotten(fuse, after), [[nodeid, 1]], `${above}: given back`);
  }
  const [d, e] = [await fuse.nodeid('/d'), await fuse.nodeid('/d/e')];
  const after = await fuse.position();
  t.is(await client.errno.stat({ path: fuse.file('d/e/x') }), 'ok', 'what is there');
  for (const [parent, name, nodeid, lookups] of [
    ['/d/e', 'x', await fuse.nodeid('/d/e/x'), 1],
    ['/d', 'e', e, 2],
    ['/', 'd', d, 2],
  ] as const) {
    t.is(await fuse.notify({ parent, name }), 'ok');
    const forget = await fuse.waitFor({ opcode: 'FORGET', nodeid, after }, 'arrived');
    t.is(forget.args['nlookup'], lookups, `${name}: as many as there were`);
  }
});

const { CACHE_DIR, KEEP_CACHE } = OpenFlag;

guestTest(
  'an error instead of a list is the one that the server gave, and the next list is whole',
  async (t, guest) => {
    await using client = await guest.client();
    await using fuse = await guest.mountFuse({
      ...BELIEVED,
      attrValidS: 0,
      init: { addFlags: ['AUTO_INVAL_DATA'] },
    });
    await client.writeFile({ path: fuse.backing('f'), data: '' });
    for (const openFlags of [0, CACHE_DIR | KEEP_CACHE]) {
      await fuse.answerOpen('OPENDIR', { openFlags });
      const permit = await fuse.fail({ opcode: ['READDIR', 'READDIRPLUS'] }, 'EDQUOT');
      t.is(await client.errno.readdir({ path: fuse.path }), 'EDQUOT', `open flags ${openFlags}`);
      await permit();
      t.deepEqual(await client.readdir({ path: fuse.path }), ['f'], `open flags ${openFlags}: later`);
    }
    const fd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    const after = await fuse.position();
    const permit = await fuse.fail('GETATTR', 'EDQUOT');
    t.is(
      await client.errno.readdirFd({ fd }),
      'EDQUOT',
      'when the time of a list that is kept cannot be asked for',
    );
    t.deepEqual(await fuse.opcodes({ opcode: ['READDIR', 'READDIRPLUS'], after }), []);
    await permit();
    t.deepEqual(await client.readdirFd({ fd }), ['f'], 'later');
    await client.close({ fd });
  },
);
