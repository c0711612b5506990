import { bytes, concat } from '../lib/bytes.ts';
import { ATTR, ENTRY, entryAnswer, u32 } from '../lib/entry-answer.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What a server lists of a directory (READDIR, READDIRPLUS), and what the kernel makes of it. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
/** One answer has less room than that, whatever the version allows for a name. */
const TOO_LONG = 5000;
/** FUSE_NAME_MAX, which later versions have made PATH_MAX. Bytes. */
const LONGEST = 'n'.repeat(1024);
const REGULAR = 8;
const PLAIN = { dropFlags: ['DO_READDIRPLUS', 'READDIRPLUS_AUTO'] } as const;
/** READDIRPLUS each time, not only where the kernel finds it worth its while. */
const PLUS = { dropFlags: ['READDIRPLUS_AUTO'] } as const;

interface Entry {
  readonly name: string;
  /** Where to go on behind it. */
  readonly next: number;
  /** What the entry says, if not the truth. */
  readonly namelen?: number;
}

/** `fuse_dirent`: inode number, offset of the next, length of the name, type; padded to eight bytes. */
function dirent({ name, next, namelen = name.length }: Entry): Uint8Array {
  const entry = new Uint8Array(Math.ceil((24 + name.length) / 8) * 8);
  const view = new DataView(entry.buffer);
  view.setBigUint64(0, BigInt(1000 + next), true);
  view.setBigUint64(8, BigInt(next), true);
  view.setUint32(16, namelen, true);
  view.setUint32(20, REGULAR, true);
  entry.set(bytes(name), 24);
  return entry;
}

const [A, B] = [dirent({ name: 'a', next: 7 }), dirent({ name: 'b', next: 9 })];
/** Where a list goes on is the server’s to say, in 63 bits. */
const [FAR, FARTHEST] = [2 ** 40 + 7, 2 ** 62];

/** Answers to READDIR, and what the first getdents64 gives: names, or an errno. */
const ANSWERS: Readonly<Record<string, readonly [Uint8Array, readonly string[] | 'EIO']>> = {
  'two names': [concat(A, B), ['a', 'b']],
  'a name and the beginning of another': [concat(A, B.subarray(0, 24)), ['a']],
  'a name and less than the head of another': [concat(A, B.subarray(0, 10)), ['a']],
  'the longest name': [dirent({ name: LONGEST, next: 7 }), [LONGEST]],
  'no name': [dirent({ name: '', next: 7 }), 'EIO'],
  'a name that is too long': [dirent({ name: 'a', next: 7, namelen: TOO_LONG }), 'EIO'],
  'a name with a slash': [dirent({ name: 'a/b', next: 7 }), 'EIO'],
  'a good name before one with a slash': [concat(A, dirent({ name: '/', next: 9 })), ['a']],
};

/** The same as READDIRPLUS would have it: each name with an entry, here of no node, which is not looked at. */
function plus(...entries: readonly Uint8Array[]): Uint8Array {
  return concat(...entries.map((entry) => concat(new Uint8Array(128), entry)));
}

guestTest('names that a server lists are looked at before anybody gets them', async (t, guest) => {
  await using fuse = await guest.mountFuse({ init: PLAIN });
  await using client = await guest.client();
  for (const [what, [body, outcome]] of Object.entries(ANSWERS)) {
    const fd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    await fuse.rule({ match: { opcode: 'READDIR' }, action: { do: 'body', body } });
    const call = { fd, bytes: 4096 };
    const got = outcome === 'EIO' ? await client.errno.readdirFd(call) : await client.readdirFd(call);
    t.deepEqual(got, outcome, what);
    await client.close({ fd });
  }
  await using other = await guest.mountFuse({ init: PLUS });
  for (const what of ['the longest name', 'no name', 'a name that is too long', 'a name with a slash']) {
    const [answer = new Uint8Array(), outcome] = ANSWERS[what] ?? [];
    const fd = await client.open({ path: other.path, flags: 'O_RDONLY|O_DIRECTORY' });
    await other.rule({ match: { opcode: 'READDIRPLUS' }, action: { do: 'body', body: plus(answer) } });
    const call = { fd, bytes: 4096 };
    const got = outcome === 'EIO' ? await client.errno.readdirFd(call) : await client.readdirFd(call);
    t.deepEqual(got, outcome, `${what}, with READDIRPLUS`);
    await client.close({ fd });
  }
});

guestTest(
  'a list goes on where the server has said, until it says that there is no more',
  async (t, guest) => {
    for (const [opcode, init, body] of [
      ['READDIR', PLAIN, (entry: Uint8Array) => entry],
      ['READDIRPLUS', PLUS, (entry: Uint8Array) => plus(entry)],
    ] as const) {
      await using fuse = await guest.mountFuse({ init });
      await using client = await guest.client();
      // Later rules cover earlier ones.
      const [far, farthest] = [dirent({ name: 'c', next: FAR }), dirent({ name: 'd', next: FARTHEST })];
      for (const answer of [new Uint8Array(), body(farthest), body(far), body(B), body(A)]) {
        await fuse.rule({ match: { opcode }, times: 1, action: { do: 'body', body: answer } });
      }
      t.deepEqual(await client.readdir({ path: fuse.path }), ['a', 'b', 'c', 'd'], opcode);
      const offsets = (await fuse.requests(opcode)).map(({ args }) => args['offset']);
      t.deepEqual(offsets, [0, 7, 9, FAR, FARTHEST], `${opcode}: the offsets that it asks for`);
      const forgotten = await fuse.opcodes({ opcode: ['FORGET', 'BATCH_FORGET'] });
      t.deepEqual(forgotten, [], `${opcode}: an entry without a node was no lookup`);
    }
  },
);

guestTest('what READDIRPLUS brings of names is known without asking again, and counted', async (t, guest) => {
  await using fuse = await guest.mountFuse({ init: PLUS, entryValidS: LONG, attrValidS: LONG });
  await using client = await guest.client();
  for (const name of ['known', 'new']) {
    await client.writeFile({ path: fuse.backing(name), data: 'four' });
  }
  await client.stat({ path: fuse.file('known') });
  await client.writeFile({ path: fuse.backing('known'), data: 'longer than that' });
  await client.readdir({ path: fuse.path });
  const after = await fuse.position();
  t.is((await client.stat({ path: fuse.file('new') })).size, 4, 'a name that was not known');
  t.is((await client.stat({ path: fuse.file('known') })).size, 16, 'new attributes of one that was');
  t.deepEqual(await fuse.opcodes({ after }), [], 'nobody is asked');
  for (const [name, nlookup] of [
    ['known', 2],
    ['new', 1],
  ] as const) {
    const before = await fuse.position();
    t.is(await fuse.notify({ parent: '/', name }), 'ok');
    const forget = await fuse.waitFor({ opcode: 'FORGET', after: before }, 'arrived');
    t.is(forget.args['nlookup'], nlookup, `${name}: as many lookups as the server has counted`);
  }
});

guestTest(
  'an entry of READDIRPLUS with attributes that cannot be is listed, and its lookup given back',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ init: PLUS, entryValidS: LONG });
    await using client = await guest.client();
    const entry = entryAnswer({ nodeid: 77n, entryValidS: LONG });
    entry.set(u32(1), ENTRY.attr + ATTR.nlink);
    const body = concat(entry, dirent({ name: 'odd', next: 7 }));
    await fuse.rule({ match: { opcode: 'READDIRPLUS' }, action: { do: 'body', body: new Uint8Array() } });
    await fuse.rule({ match: { opcode: 'READDIRPLUS' }, times: 1, action: { do: 'body', body } });
    t.deepEqual(await client.readdir({ path: fuse.path }), ['odd']);
    t.is(await client.errno.stat({ path: fuse.file('odd') }), 'ENOENT');
    const sent = await fuse.requests({ opcode: ['FORGET', 'LOOKUP'] });
    t.deepEqual(
      sent.map(({ opcode, nodeid, args }) => [opcode, nodeid, args['nlookup'] ?? args['name']]),
      [
        ['FORGET', 77, 1],
        ['LOOKUP', 1, 'odd'],
      ],
      'it is given back, and looked up when it is wanted',
    );
  },
);

guestTest('after a list the access time of the directory is asked for again', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: LONG });
  await using client = await guest.client();
  const asked = async (): Promise<string[]> => {
    const after = await fuse.position();
    await client.stat({ path: fuse.path });
    return fuse.opcodes({ opcode: 'GETATTR', after });
  };
  await asked();
  t.deepEqual(await asked(), [], 'attributes that count');
  await client.readdir({ path: fuse.path });
  t.deepEqual(await asked(), ['GETATTR'], 'after a list');
});

/** How the kernel gets names: from READDIR, from READDIRPLUS, or from a list that was made before. */
const LISTS = {
  READDIR: { init: PLAIN, openFlags: 0 },
  READDIRPLUS: { init: PLUS, openFlags: 0 },
  'names that are kept': { init: PLAIN, openFlags: OpenFlag.CACHE_DIR | OpenFlag.KEEP_CACHE },
} as const;

guestTest('a list without room for one name is EINVAL, and goes on where it stands', async (t, guest) => {
  await using client = await guest.client();
  for (const [what, { init, openFlags }] of Object.entries(LISTS)) {
    await using fuse = await guest.mountFuse({ init, entryValidS: LONG, attrValidS: LONG });
    await fuse.answerOpen('OPENDIR', { openFlags });
    await client.writeFile({ path: fuse.backing('f'), data: '' });
    await client.readdir({ path: fuse.path });
    const after = await fuse.position();
    const fd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    t.is(await client.errno.readdirFd({ fd, bytes: 10 }), 'EINVAL', `${what}: no room`);
    t.deepEqual(await client.readdirFd({ fd, bytes: 4096 }), ['.', '..', 'f'], `${what}: room`);
    const asked = await fuse.opcodes({ opcode: ['READDIR', 'READDIRPLUS'], after });
    t.is(asked.length > 0, openFlags === 0, `${what}: the server is asked`);
    await client.close({ fd });
  }
});
