import { firstDifference, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { ENTRY, u64 } from '../lib/entry-answer.ts';
import type { OpcodeName } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openFlagNames } from '../lib/open-flag-names.ts';

guestTest('a file made with O_EXCL is written past the server and only made once (A3)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const data = pattern(6000);
  const make = { path: fuse.file('new'), flags: 'O_RDWR|O_CREAT|O_EXCL', mode: 0o640 };

  const fd = await client.open(make);
  t.is(await client.write({ fd, data }), 6000);
  t.is(await client.errno.open(make), 'EEXIST');
  t.is(firstDifference(await client.pread({ fd, offset: 0, count: 6000 }), data), undefined);
  await client.close({ fd });
  t.is(firstDifference(await client.readFile({ path: fuse.backing('new') }), data), undefined);
  t.is((await client.stat({ path: fuse.backing('new') })).mode & 0o7777, 0o640);
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'a file made by O_TMPFILE is in passthrough mode and can be given a name (A4)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();

    const fd = await client.open({ path: fuse.path, flags: 'O_RDWR|O_TMPFILE', mode: 0o600 });
    t.is(await client.write({ fd, data: 'nameless' }), 8);
    t.is(text(await client.pread({ fd, offset: 0, count: 20 })), 'nameless');
    await client.linkFd({ fd, to: fuse.file('named') });
    await client.write({ fd, data: ', named' });
    t.is(text(await client.readFile({ path: fuse.backing('named') })), 'nameless, named');
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('a file without a name has the owner and the times that it is given (A4)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const fd = await client.open({ path: fuse.path, flags: 'O_RDWR|O_TMPFILE', mode: 0o600 });
  const path = `/proc/${client.pid}/fd/${fd}`;
  await client.chown({ path, uid: 1234, gid: 5678 });
  await client.utimens({ path, atimeNs: 1_500_000_000e9, mtimeNs: 1_600_000_000e9 });
  await client.linkFd({ fd, to: fuse.file('named') });
  await client.close({ fd });
  const { uid, gid, atimeNs, mtimeNs } = await client.stat({ path: fuse.backing('named') });
  t.deepEqual(
    { uid, gid, atimeNs, mtimeNs },
    { uid: 1234, gid: 5678, atimeNs: 1_500_000_000e9, mtimeNs: 1_600_000_000e9 },
  );
});

guestTest(
  'CREATE says whether the name may be there already, and how the file is to be opened (A3)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    for (const [at, flags] of [
      'O_RDONLY|O_CREAT',
      'O_WRONLY|O_CREAT|O_APPEND',
      'O_RDWR|O_CREAT|O_EXCL',
      'O_RDWR|O_CREAT|O_EXCL|O_SYNC',
      // Whose terminal a file becomes is not the server's business.
      'O_RDWR|O_CREAT|O_NOCTTY',
    ].entries()) {
      const after = await fuse.position();
      const path = fuse.file(`f${at}`);
      await client.close({ fd: await client.open({ path, flags }) });
      const [request] = await fuse.requests({ opcode: 'CREATE', after });
      t.is(openFlagNames(request?.args['flags']), flags.replace('|O_NOCTTY', ''), flags);
    }
  },
);

guestTest('requests about a file that its open has made are about that file', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off', init: { addFlags: ['FLOCK_LOCKS'] } });
  await using client = await guest.client();
  for (const [opcode, flags, path] of [
    ['CREATE', 'O_RDWR|O_CREAT', fuse.file('made')],
    ['TMPFILE', 'O_RDWR|O_TMPFILE', fuse.path],
  ] as const) {
    const after = await fuse.position();
    const fd = await client.open({ path, flags, mode: 0o600 });
    await client.pwrite({ fd, data: 'data', offset: 0 });
    await client.fsync({ fd });
    await client.close({ fd });
    await fuse.waitFor({ opcode: 'RELEASE', after });
    const asked = ['WRITE', 'FSYNC', 'FLUSH', 'RELEASE'] as const;
    const sent = await fuse.requests({ opcode: [...asked], after });
    const nodes = new Set(sent.map(({ nodeid }) => nodeid));
    t.deepEqual(
      asked.filter((each) => !sent.some((request) => request.opcode === each)),
      [],
      `${opcode}: each is sent`,
    );
    t.is(nodes.size, 1, `${opcode}: all of one node`);
    t.false(nodes.has(1), `${opcode}: which is not the directory`);
  }
});

guestTest('a directory is asked about again after a file without a name was made in it', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: 100_000, entryValidS: 100_000 });
  await using client = await guest.client();
  const stat = async (): Promise<string[]> => {
    const after = await fuse.position();
    await client.stat({ path: fuse.path });
    return fuse.opcodes({ opcode: 'GETATTR', after });
  };
  await stat();
  t.deepEqual(await stat(), [], 'before');
  const fd = await client.open({ path: fuse.path, flags: 'O_RDWR|O_TMPFILE', mode: 0o600 });
  t.deepEqual(await stat(), ['GETATTR'], 'after O_TMPFILE');
  await client.close({ fd });
});

/** How something is made, and opened, by the request for it. */
const MADE: Partial<Readonly<Record<OpcodeName, (client: Client, path: string) => Promise<number>>>> = {
  CREATE: (client, path) => client.open({ path, flags: 'O_RDWR|O_CREAT' }),
  MKNOD: async (client, path) => {
    await client.mknod({ path, mode: 0o100_600 });
    return client.open({ path, flags: 'O_RDWR' });
  },
  MKDIR: async (client, path) => {
    await client.mkdir({ path });
    return client.open({ path, flags: 'O_RDONLY|O_DIRECTORY' });
  },
};

guestTest(
  'what is made is of the generation that the server says, and the same when its name is looked up again',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    for (const [opcode, make] of Object.entries(MADE)) {
      const path = `/${opcode}`;
      const generation = { do: 'patch', at: ENTRY.generation, bytes: u64(7n) } as const;
      const answers: readonly OpcodeName[] = [opcode as OpcodeName, 'LOOKUP'];
      await fuse.rule({ match: { opcode: answers, path }, action: generation });
      const start = await fuse.position();
      const fd = await make(client, fuse.file(opcode));
      // Before it is made, and when it is opened if its maker has not.
      const looks = opcode === 'CREATE' ? ['LOOKUP'] : ['LOOKUP', 'LOOKUP'];
      const made = await fuse.opcodes({ opcode: 'LOOKUP', path, after: start });
      t.deepEqual(made, looks, `${opcode}: looked up while it was made and opened`);
      const after = await fuse.position();
      t.is(await client.errno.stat({ path: fuse.file(opcode) }), 'ok');
      const asked = await fuse.opcodes({ opcode: 'LOOKUP', after });
      t.deepEqual(asked, ['LOOKUP'], `${opcode}: the name is looked up once, and leads to what is known`);
      t.is(await client.errno.fstat({ fd }), 'ok', `${opcode}: what is open is still what the server means`);
      await client.close({ fd });
    }
    t.deepEqual(await fuse.dataRequests(), []);
  },
);
