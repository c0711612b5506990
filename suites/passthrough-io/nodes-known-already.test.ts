import { concat, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { ATTR, ENTRY, entryAnswer, u32, u64 } from '../lib/entry-answer.ts';
import { OpenFlag, type OpcodeName } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openBody } from '../lib/raw-server.ts';

/** What a server says it has made by a number that the kernel knows already. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
const BELIEVED = { entryValidS: LONG, attrValidS: LONG } as const;
const [DIRECTORY, REGULAR] = [0o040_755, 0o100_644];
const FILE_TYPE = 0o170_000;
const GENERATION = 7n;

/** Has a request answered with the number of what is known, and with this generation. */
async function answerKnown(
  fuse: FuseMount,
  {
    opcode,
    path,
    known,
    generation = 0n,
  }: { opcode: OpcodeName; path: string; known: string; generation?: bigint },
): Promise<void> {
  const bytes = new Uint8Array([...u64(BigInt(await fuse.nodeid(known))), ...u64(generation)]);
  const action = { do: 'patch', at: ENTRY.nodeid, bytes } as const;
  await fuse.rule({ match: { opcode, path }, times: 1, action });
}

interface Kind {
  readonly opcode: OpcodeName;
  readonly known: (client: Client, path: string) => Promise<unknown>;
  readonly make: (client: Client, path: string, fuse: FuseMount) => Promise<unknown>;
  readonly asks: OpcodeName;
  readonly which: (client: Client, path: string) => Promise<string>;
}

/** How there comes to be something known, and another of its kind; and what tells which of them a name is. */
const KINDS: readonly Kind[] = [
  {
    opcode: 'MKNOD',
    known: (client, path) => client.writeFile({ path, data: 'of the known one' }),
    make: (client, path) => client.mknod({ path, mode: REGULAR }),
    asks: 'OPEN',
    which: async (client, path) => text(await client.readFile({ path })),
  },
  {
    opcode: 'SYMLINK',
    known: (client, path) => client.symlink({ target: 'of the known one', path }),
    make: (client, path) => client.symlink({ target: 'another', path }),
    asks: 'READLINK',
    which: (client, path) => client.readlink({ path }),
  },
  {
    opcode: 'LINK',
    known: (client, path) => client.writeFile({ path, data: 'of the known one' }),
    make: (client, path, fuse) => client.link({ from: fuse.file('another'), to: path }),
    asks: 'OPEN',
    which: async (client, path) => text(await client.readFile({ path })),
  },
];

for (const { opcode, known, make, asks, which } of KINDS) {
  guestTest(
    `what ${opcode} is answered with by a number that is known is that, by one more name`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse(BELIEVED);
      await using client = await guest.client();
      await known(client, fuse.backing('known'));
      await client.writeFile({ path: fuse.backing('another'), data: 'of another' });
      for (const name of ['known', 'another']) await client.lstat({ path: fuse.file(name) });
      const node = await fuse.nodeid('/known');
      await answerKnown(fuse, { opcode, path: '/made', known: '/known' });
      await make(client, fuse.file('made'), fuse);
      let after = await fuse.position();
      t.is(await which(client, fuse.file('made')), 'of the known one');
      t.deepEqual(await fuse.opcodes({ opcode: 'LOOKUP', after }), [], 'the new name counts');
      const [asked] = await fuse.requests({ opcode: asks, after });
      t.is(asked?.nodeid, node, `${asks} is of the known one`);
      after = await fuse.position();
      // Without a name that counts the kernel gives the number back, as often as it was told of it.
      for (const name of ['known', 'made']) t.is(await fuse.notify({ parent: '/', name }), 'ok', name);
      const forget = await fuse.waitFor({ opcode: 'FORGET', nodeid: node, after }, 'arrived');
      t.is(forget.args['nlookup'], 2, 'told of it twice');
      t.deepEqual(await fuse.dataRequests(), []);
    },
  );
}

guestTest(
  'a number that is given to something else is taken from what had it, which is EIO from then on (B24)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(BELIEVED);
    await using client = await guest.client();
    const makes = {
      'a file': {
        opcode: 'MKNOD',
        make: (path: string) => client.errno.mknod({ path, mode: REGULAR }),
        type: REGULAR & FILE_TYPE,
        generation: 0n,
      },
      'a directory of another generation': {
        opcode: 'MKDIR',
        make: (path: string) => client.errno.mkdir({ path }),
        type: DIRECTORY & FILE_TYPE,
        generation: GENERATION,
      },
    } as const;
    for (const [at, [what, { opcode, make, type, generation }]] of Object.entries(makes).entries()) {
      const [old, made] = [`old${at}`, `made${at}`];
      await client.mkdir({ path: fuse.backing(old) });
      const fd = await client.open({ path: fuse.file(old), flags: 'O_RDONLY|O_DIRECTORY' });
      t.is(await client.errno.readdirFd({ fd }), 'ok', what);
      await answerKnown(fuse, { opcode, path: `/${made}`, known: `/${old}`, generation });
      t.is(await make(fuse.file(made)), 'ok', `${what} is made`);
      const after = await fuse.position();
      t.is((await client.lstat({ path: fuse.file(made) })).mode & FILE_TYPE, type, `${what}: what it is`);
      t.is(await client.errno.fstat({ fd }), 'EIO', `${what}: the directory that is open`);
      t.is(await client.errno.readdirFd({ fd, bytes: 1000 }), 'EIO', `${what}: its names`);
      t.deepEqual(await fuse.opcodes({ after }), [], `${what}: the server is not asked`);
      await client.errno.close({ fd });
    }
  },
);

guestTest(
  'a file in passthrough mode that CREATE gives as another is not opened with a second backing file, and keeps its own (B24)',
  async (t, guest) => {
    guest.needs(guest.expected.hasIoModes, 'check that an inode has one backing file');
    await using fuse = await guest.mountFuse(BELIEVED);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const node = await fuse.nodeid('/f');
    await answerKnown(fuse, { opcode: 'CREATE', path: '/made', known: '/f' });
    const after = await fuse.position();
    const create = { path: fuse.file('made'), flags: 'O_RDWR|O_CREAT' };
    t.is(await client.errno.open(create), 'EIO');
    const [asked] = await fuse.requests({ opcode: 'CREATE', after });
    const release = await fuse.waitFor({ opcode: 'RELEASE', after }, 'arrived');
    t.is(release.args['fh'], asked?.reply?.open?.fh, 'what the server has opened is released');
    t.is(release.nodeid, node);
    t.is(text(await client.pread({ fd, count: 8, offset: 0 })), 'contents', 'the open file works on');
    const again = await client.open({ path: fuse.file('made'), flags: 'O_RDONLY' });
    t.is((await fuse.requests({ opcode: 'OPEN', after })).at(-1)?.nodeid, node, 'the new name is the file’s');
    t.is(text(await client.pread({ fd: again, count: 8, offset: 0 })), 'contents');
    for (const each of [fd, again]) await client.close({ fd: each });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

/** Attributes of the answer that are those of the known file: 4096 bytes, of the first second. */
function asKnown(nodeid: number): Uint8Array {
  const entry = entryAnswer({ nodeid: BigInt(nodeid), entryValidS: LONG });
  entry.set(u64(BigInt(LONG)), ENTRY.attrValid);
  entry.set(u64(BigInt(nodeid)), ENTRY.attr + ATTR.ino);
  entry.set(u64(4096n), ENTRY.attr + ATTR.size);
  const mtime = 32;
  entry.set(u64(1n), ENTRY.attr + mtime);
  entry.set(u32(REGULAR), ENTRY.attr + ATTR.mode);
  entry.set(u32(2), ENTRY.attr + ATTR.nlink);
  return entry;
}

guestTest(
  'pages of a file that CREATE gives are dropped, unless its answer says to keep them',
  async (t, guest) => {
    await using client = await guest.client();
    const withoutTruncation = { dropFlags: ['ATOMIC_O_TRUNC'] } as const;
    for (const { what, openFlags = OpenFlag.KEEP_CACHE, flags = '', init = {}, reads = [] } of [
      { what: 'nothing said', openFlags: 0, reads: ['READ'] },
      { what: 'KEEP_CACHE' },
      { what: 'KEEP_CACHE, but emptied by CREATE', flags: '|O_TRUNC', reads: ['READ'] },
      { what: 'KEEP_CACHE, of a server that empties nothing', flags: '|O_TRUNC', init: withoutTruncation },
    ]) {
      await using fuse = await guest.mountFuse({ ...BELIEVED, passthrough: 'off', init });
      await client.writeFile({ path: fuse.backing('f'), data: 'f'.repeat(4096) });
      await client.utimens({ path: fuse.backing('f'), atimeNs: 1e9, mtimeNs: 1e9 });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      await client.pread({ fd, count: 4096, offset: 0 });
      const [opened] = await fuse.requests('OPEN');
      const answer = openBody(BigInt(opened?.reply?.open?.fh ?? 0), OpenFlag.NOFLUSH | openFlags, 0);
      const body = concat(asKnown(await fuse.nodeid('/f')), answer);
      await fuse.rule({ match: { opcode: 'CREATE' }, times: 1, action: { do: 'body', body } });
      const after = await fuse.position();
      const made = await client.open({ path: fuse.file('made'), flags: `O_RDWR|O_CREAT${flags}` });
      t.is(text(await client.pread({ fd, count: 1, offset: 0 })), 'f', what);
      t.deepEqual(await fuse.opcodes({ opcode: 'READ', after }), reads, `${what}: is the server asked?`);
      for (const each of [fd, made]) await client.close({ fd: each });
    }
  },
);

guestTest(
  'a directory found by another name is ESTALE while something is made in the directory that it is in',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(BELIEVED);
    await using client = await guest.client();
    await using other = await guest.client();
    for (const name of ['p', 'p/old', 'q']) await client.mkdir({ path: fuse.backing(name) });
    const fd = await client.open({ path: fuse.file('p/old'), flags: 'O_RDONLY|O_DIRECTORY' });
    const body = entryAnswer({ nodeid: BigInt(await fuse.nodeid('/p/old')), entryValidS: LONG });
    body.set(u64(BigInt(LONG)), ENTRY.attrValid);
    body.set(u32(DIRECTORY), ENTRY.attr + ATTR.mode);
    body.set(u32(2), ENTRY.attr + ATTR.nlink);
    const found = { do: 'body', body } as const;
    await fuse.rule({ match: { opcode: 'LOOKUP', path: '/q/seen' }, action: found });
    await fuse.rule({ match: { opcode: 'MKDIR', path: '/q/made' }, action: found });
    const hold = await fuse.hold({ opcode: 'MKDIR', path: '/p/new' });
    const making = other.mkdir({ path: fuse.file('p/new') });
    making.catch(() => undefined);
    const request = await hold.arrived();
    const named = (): Promise<string> => client.readlink({ path: `/proc/${client.pid}/fd/${fd}` });
    const after = await fuse.position();
    t.is(await client.errno.stat({ path: fuse.file('q/seen') }), 'ESTALE', 'looked up');
    t.is(await client.errno.mkdir({ path: fuse.file('q/made') }), 'ESTALE', 'made');
    const asked = await fuse.requests({ opcode: 'MKDIR', after });
    t.is(asked.length, 2, 'and once more after the first ESTALE');
    t.is(await named(), fuse.file('p/old'), 'it is where it was');
    await hold.release(request);
    await making;
    t.is(await client.errno.stat({ path: fuse.file('q/seen') }), 'ok', 'looked up, later');
    t.is(await named(), fuse.file('q/seen'), 'it has moved');
    t.is(await client.errno.mkdir({ path: fuse.file('q/made') }), 'ok', 'made, later');
    t.is(await named(), fuse.file('q/made'), 'it has moved again');
    await client.close({ fd });
  },
);
