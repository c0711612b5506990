import { concat } from '../lib/bytes.ts';
import type { BatchCall, Client } from '../lib/client.ts';
import { ATTR, ENTRY, entryAnswer, u64 } from '../lib/entry-answer.ts';
import type { OpcodeName } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** How long the kernel has names, what they belong to, and for how long it believes them. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
const TIMES = 5;

guestTest(
  'a name that does not count is asked for each time, but not forgotten in between',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ entryValidS: 0, attrValidS: 0 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const stat: BatchCall = { call: 'stat', args: { path: fuse.file('f') } };
    await client.batch({ calls: Array.from({ length: TIMES }, () => stat), oneThread: true });
    t.is((await fuse.requests({ opcode: 'LOOKUP', path: '/f' })).length, TIMES, 'asked for');
    t.deepEqual(await fuse.opcodes({ opcode: ['FORGET', 'BATCH_FORGET'] }), [], 'nothing is given back');
    const known = (await fuse.state()).inodes.find(({ path }) => path === '/f');
    t.is(known?.lookups, TIMES, 'one file, looked up so many times');
  },
);

guestTest(
  'a directory that is found by another name is believed to have it as long as that answer says',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    for (const name of ['old', 'new']) await client.mkdir({ path: fuse.backing(name) });
    // What is known of the old name does not count any more when the new one is looked up.
    const expired = { do: 'patch', at: ENTRY.entryValid, bytes: u64(0n) } as const;
    await fuse.rule({ match: { opcode: 'LOOKUP', path: '/old' }, times: 1, action: expired });
    await client.stat({ path: fuse.file('old') });
    const bytes = u64(BigInt(await fuse.nodeid('/old')));
    await fuse.rule({
      match: { opcode: 'LOOKUP', path: '/new' },
      action: { do: 'patch', at: ENTRY.nodeid, bytes },
    });
    const asked: number[] = [];
    for (let time = 0; time < 3; time++) {
      const after = await fuse.position();
      await client.stat({ path: fuse.file('new') });
      asked.push((await fuse.requests({ opcode: 'LOOKUP', after })).length);
    }
    t.deepEqual(asked, [1, 0, 0], 'how often the new name is looked up');
  },
);

/** Eternity, for servers: the least that 32 bits do not hold, and all that 64 do. Seconds. */
const FOR_EVER = [2n ** 32n, 2n ** 64n - 1n];

guestTest('names and attributes count for thousands of years when the server says so', async (t, guest) => {
  await using fuse = await guest.mountFuse({ entryValidS: 0, attrValidS: 0 });
  await using client = await guest.client();
  for (const seconds of FOR_EVER) {
    const name = String(seconds);
    await client.writeFile({ path: fuse.backing(name), data: 'contents' });
    // Of the name, then of the attributes.
    const bytes = concat(u64(seconds), u64(seconds));
    await fuse.rule({
      match: { opcode: 'LOOKUP', path: `/${name}` },
      action: { do: 'patch', at: ENTRY.entryValid, bytes },
    });
    // One by one: what counts for no time at all does so until the clock of the kernel ticks.
    for (let time = 0; time < TIMES; time++) await client.stat({ path: fuse.file(name) });
    const asked = await fuse.opcodes({ opcode: ['LOOKUP', 'GETATTR'], path: `/${name}` });
    t.deepEqual(asked, ['LOOKUP'], `${seconds} s`);
  }
});

guestTest('a file may be as large as an offset can be', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: LONG });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const bytes = u64(2n ** 63n - 1n);
  await fuse.rule({
    match: { opcode: 'LOOKUP' },
    action: { do: 'patch', at: ENTRY.attr + ATTR.size, bytes },
  });
  const path = fuse.file('f');
  t.is(await client.errno.stat({ path }), 'ok');
  // As a double.
  t.is((await client.stat({ path })).size, 2 ** 63);
});

/** inode(7) */
const [TYPE, FIFO, LINK, SOCKET] = [0o170_000, 0o010_000, 0o120_000, 0o140_000];

guestTest('what is no regular file has a second name when it is linked', async (t, guest) => {
  await using fuse = await guest.mountFuse({ entryValidS: LONG, attrValidS: LONG });
  await using client = await guest.client();
  await client.symlink({ target: 'nowhere', path: fuse.backing('symbolic link') });
  for (const [name, type] of [
    ['symbolic link', LINK],
    ['fifo', FIFO],
    ['socket', SOCKET],
  ] as const) {
    if (type !== LINK) await client.mknod({ path: fuse.backing(name), mode: type | 0o600 });
    const to = fuse.file(`another ${name}`);
    t.is(await client.errno.link({ from: fuse.file(name), to }), 'ok', name);
    const { mode, nlink } = await client.lstat({ path: to });
    t.deepEqual([mode & TYPE, nlink], [type, 2], name);
  }
});

/** What brings a name with its attributes, by the request for it. */
const BRINGING: Partial<Readonly<Record<OpcodeName, (client: Client, fuse: FuseMount) => Promise<unknown>>>> =
  {
    LOOKUP: (client, fuse) => client.lstat({ path: fuse.file('LOOKUP') }),
    READDIRPLUS: (client, fuse) => client.readdir({ path: fuse.path }),
    CREATE: async (client, fuse) =>
      client.close({ fd: await client.open({ path: fuse.file('CREATE'), flags: 'O_RDWR|O_CREAT' }) }),
    MKNOD: (client, fuse) => client.mknod({ path: fuse.file('MKNOD'), mode: FIFO | 0o600 }),
    MKDIR: (client, fuse) => client.mkdir({ path: fuse.file('MKDIR') }),
    SYMLINK: (client, fuse) => client.symlink({ target: 'nowhere', path: fuse.file('SYMLINK') }),
    LINK: (client, fuse) => client.link({ from: fuse.file('LOOKUP'), to: fuse.file('LINK') }),
  };

guestTest('how long a name counts is one thing, how long its attributes do is another', async (t, guest) => {
  await using client = await guest.client();
  for (const [validity, asked] of [
    [{ entryValidS: LONG, attrValidS: 0 }, ['GETATTR']],
    [{ entryValidS: LONG, attrValidS: LONG }, []],
  ] as const) {
    await using fuse = await guest.mountFuse({ ...validity, init: { dropFlags: ['READDIRPLUS_AUTO'] } });
    for (const name of ['LOOKUP', 'READDIRPLUS']) {
      await client.writeFile({ path: fuse.backing(name), data: name });
    }
    for (const [name, bring] of Object.entries(BRINGING)) {
      await bring(client, fuse);
      const after = await fuse.position();
      await client.lstat({ path: fuse.file(name) });
      const sent = await fuse.opcodes({ opcode: ['LOOKUP', 'GETATTR'], after });
      t.deepEqual(sent, [...asked], `${name}, attributes that count ${validity.attrValidS} s`);
    }
  }
});

guestTest(
  'an open that would make a file does not look up a name that is believed, be it of a file or of none',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('there'), data: 'contents' });
    const none = { do: 'body', body: entryAnswer({ nodeid: 0n, entryValidS: LONG }) } as const;
    await fuse.rule({ match: { opcode: 'LOOKUP', path: '/none' }, times: 1, action: none });
    for (const [name, first, makes] of [
      ['there', 'ok', ['OPEN']],
      ['none', 'ENOENT', ['CREATE']],
    ] as const) {
      t.is(await client.errno.stat({ path: fuse.file(name) }), first, name);
      const after = await fuse.position();
      const fd = await client.open({ path: fuse.file(name), flags: 'O_RDWR|O_CREAT' });
      const asked = await fuse.opcodes({ opcode: ['LOOKUP', 'OPEN', 'CREATE'], after });
      t.deepEqual(asked, makes, `${name}: what open with O_CREAT asks`);
      await client.close({ fd });
    }
  },
);
