import { eventually } from '../lib/eventually.ts';
import type { InitReply } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Flags of the answer to INIT that change how directories and permissions are asked for. */

/** Longer than any test. Seconds. */
const LONG = 100_000;

guestTest(
  'with PARALLEL_DIROPS names of one directory are looked up side by side (B25)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ init: { addFlags: ['PARALLEL_DIROPS'] } });
    await using client = await guest.client();
    await using other = await guest.client();
    await client.writeFile({ path: fuse.backing('a'), data: 'a' });
    await other.writeFile({ path: fuse.backing('b'), data: 'b' });
    const hold = await fuse.hold({ opcode: 'LOOKUP', path: '/a' });
    const first = client.errno.stat({ path: fuse.file('a') });
    const held = await hold.arrived();
    const second = other.errno.stat({ path: fuse.file('b') });
    const came = await eventually(
      () => fuse.requests({ opcode: 'LOOKUP', path: '/b' }),
      ({ length }) => length > 0,
    );
    t.is(came.length, 1, 'LOOKUP of b while that of a has no answer');
    await hold.release(held);
    t.deepEqual([await first, await second], ['ok', 'ok']);
  },
);

guestTest(
  'without PARALLEL_DIROPS names of one directory are looked up one after the other (B25)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ init: { dropFlags: ['PARALLEL_DIROPS'] } });
    await using client = await guest.client();
    await using other = await guest.client();
    await client.writeFile({ path: fuse.backing('a'), data: 'a' });
    await other.writeFile({ path: fuse.backing('b'), data: 'b' });
    const hold = await fuse.hold({ opcode: 'LOOKUP', path: '/a' });
    const first = client.errno.stat({ path: fuse.file('a') });
    const held = await hold.arrived();
    const second = other.errno.stat({ path: fuse.file('b') });
    // Where it waits, or through: what counts is which of the two was first.
    await eventually(
      () => guest.where(other.pid),
      (where) => where.includes('fuse_lookup'),
    );
    await hold.release(held);
    t.deepEqual([await first, await second], ['ok', 'ok']);
    const [a] = await fuse.requests({ opcode: 'LOOKUP', path: '/a' });
    const [b] = await fuse.requests({ opcode: 'LOOKUP', path: '/b' });
    t.true(
      (b?.arrivedMs ?? 0) >= (a?.reply?.atMs ?? Infinity),
      'LOOKUP of b comes after the answer to that of a',
    );
  },
);

/** In the stack of a thread: it lists a directory, or waits for its turn to. */
const LISTS = /fuse_readdir|fuse_lock_inode/;

for (const [what, init, sideBySide] of [
  ['with PARALLEL_DIROPS', { addFlags: ['PARALLEL_DIROPS'] }, true],
  ['without PARALLEL_DIROPS', { dropFlags: ['PARALLEL_DIROPS'] }, false],
] as const) {
  const how = sideBySide ? 'side by side' : 'one after the other';
  guestTest(`${what} lists of one directory are asked for ${how} (B25)`, async (t, guest) => {
    await using fuse = await guest.mountFuse({ init });
    await using client = await guest.client();
    await using other = await guest.client();
    await client.writeFile({ path: fuse.backing('a'), data: 'a' });
    const open = { path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' };
    const [one, two] = [await client.open(open), await other.open(open)];
    const opcode = ['READDIR', 'READDIRPLUS'] as const;
    const hold = await fuse.hold({ opcode });
    const first = client.readdirFd({ fd: one });
    first.catch(() => undefined);
    const held = await hold.arrived();
    const second = other.readdirFd({ fd: two });
    second.catch(() => undefined);
    const both = [held];
    if (sideBySide) {
      both.push(await hold.arrived());
    } else {
      // Of a thread that sleeps the kernel does not always know who called what it sleeps in.
      const where = await eventually(
        () => guest.where(other.pid),
        (seen) => LISTS.test(seen),
      );
      t.regex(where, LISTS, 'the second list has begun');
      // A request that is sent now comes after one that would not wait.
      await other.statfs({ path: fuse.path });
      t.is((await fuse.requests({ opcode })).length, 1, 'the second list waits for the answer to the first');
    }
    await hold.stop();
    for (const each of both) await hold.release(each);
    t.deepEqual([await first, await second], [['a'], ['a']]);
    await client.close({ fd: one });
    await other.close({ fd: two });
  });
}

interface Listing {
  readonly init: InitReply;
  /** From the beginning to the end, and the requests of a stat of a name that was listed. */
  readonly sends: readonly string[];
  readonly stat: readonly string[];
  /** A part of it, a stat of a name, and the rest. */
  readonly inParts: readonly string[];
}

const LISTINGS: Readonly<Record<string, Listing>> = {
  'without DO_READDIRPLUS': {
    init: { dropFlags: ['DO_READDIRPLUS', 'READDIRPLUS_AUTO'] },
    sends: ['READDIR', 'READDIR'],
    stat: ['LOOKUP'],
    inParts: ['READDIR', 'READDIR', 'READDIR'],
  },
  'with READDIRPLUS_AUTO alone': {
    init: { dropFlags: ['DO_READDIRPLUS'], addFlags: ['READDIRPLUS_AUTO'] },
    sends: ['READDIR', 'READDIR'],
    stat: ['LOOKUP'],
    inParts: ['READDIR', 'READDIR', 'READDIR'],
  },
  'with DO_READDIRPLUS alone': {
    init: { dropFlags: ['READDIRPLUS_AUTO'], addFlags: ['DO_READDIRPLUS'] },
    sends: ['READDIRPLUS', 'READDIRPLUS'],
    stat: [],
    inParts: ['READDIRPLUS', 'READDIRPLUS', 'READDIRPLUS'],
  },
  'with DO_READDIRPLUS and READDIRPLUS_AUTO': {
    init: { addFlags: ['DO_READDIRPLUS', 'READDIRPLUS_AUTO'] },
    // Attributes come at the beginning, and again when somebody has wanted to know them.
    sends: ['READDIRPLUS', 'READDIR'],
    stat: [],
    inParts: ['READDIRPLUS', 'READDIRPLUS', 'READDIR'],
  },
};

async function asked(fuse: FuseMount, call: () => Promise<unknown>): Promise<string[]> {
  const after = await fuse.position();
  await call();
  return fuse.opcodes({ opcode: ['READDIR', 'READDIRPLUS', 'LOOKUP'], after });
}

for (const [what, { init, sends, stat, inParts }] of Object.entries(LISTINGS)) {
  guestTest(`${what} a directory is listed by ${sends.join(' and ')} (B25)`, async (t, guest) => {
    await using fuse = await guest.mountFuse({ init, entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    const names = ['a', 'b', 'c', 'd', 'e', 'f'];
    for (const directory of ['one', 'two', 'three']) {
      await client.mkdir({ path: fuse.backing(directory) });
      for (const name of names)
        await client.writeFile({ path: fuse.backing(`${directory}/${name}`), data: name });
    }
    const one = await client.open({ path: fuse.file('one'), flags: 'O_RDONLY|O_DIRECTORY' });
    const all = await asked(fuse, async () => {
      t.deepEqual(await client.readdirFd({ fd: one }), names);
    });
    t.deepEqual(all, sends, 'all of it');
    t.deepEqual(
      await asked(fuse, () => client.stat({ path: fuse.file('one/c') })),
      stat,
      'stat of a name then',
    );
    await client.close({ fd: one });

    for (const [directory, wanted] of [
      ['two', 'a'],
      ['three', 'new'],
    ] as const) {
      const fd = await client.open({ path: fuse.file(directory), flags: 'O_RDONLY|O_DIRECTORY' });
      const listed: string[] = [];
      const part = async (bytes: number): Promise<void> => {
        listed.push(...(await client.readdirFd({ fd, bytes })));
      };
      const parts = await asked(fuse, async () => {
        await part(80);
        await client.writeFile({ path: fuse.backing(`${directory}/${wanted}`), data: wanted });
        await client.stat({ path: fuse.file(`${directory}/${wanted}`) });
        await part(4096);
        await part(4096);
      });
      const lists = parts.filter((opcode) => opcode !== 'LOOKUP');
      t.deepEqual(lists, inParts, `a part, a stat of the name ${wanted}, and the rest`);
      t.deepEqual(listed.filter((name) => names.includes(name)).sort(), names, 'each name once');
      await client.close({ fd });
    }
  });
}

for (const [what, init, outcome] of [
  ['without POSIX_ACL', {}, { errno: 'ok', sent: ['OPEN'] }],
  ['with POSIX_ACL', { addFlags: ['POSIX_ACL'] }, { errno: 'EACCES', sent: [] }],
] as const) {
  const who = outcome.errno === 'ok' ? 'the server' : 'the kernel';
  guestTest(`${what} ${who} decides who may open a file (B25)`, async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', allowOther: true, init });
    await using client = await guest.client();
    await client.chmod({ path: fuse.root, mode: 0o755 });
    await client.writeFile({ path: fuse.backing('f'), data: 'contents', mode: 0o600 });
    // Directories above the mount may be root's alone.
    const dirfd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    await client.setCredentials({ uid: 4000, gid: 4000 });
    const errno = await client.errno.open({ dirfd, path: 'f', flags: 'O_RDONLY' });
    t.is(errno, outcome.errno, 'a stranger opens a file of root’s');
    t.deepEqual(await fuse.opcodes({ opcode: 'OPEN', path: '/f' }), outcome.sent, 'what the server is asked');
  });
}
