import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { ATTR, ATTR_OUT, ENTRY, u32, u64 } from '../lib/entry-answer.ts';
import type { OpcodeName } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openErrno } from '../lib/open-errno.ts';

/** Answers about names and attributes that no filesystem could give, beside files in passthrough mode. */

const DIRECTORY = 0o040755;
const REGULAR = 0o100644;
const FIFO = 0o010644;
const NO_TYPE = 0o644;
/** One more than a file offset can be. */
const TOO_LARGE = 1n << 63n;

interface Wrong {
  readonly at: number;
  readonly bytes: Uint8Array;
}

const inEntry = (field: keyof typeof ATTR, bytes: Uint8Array): Wrong => ({
  at: ENTRY.attr + ATTR[field],
  bytes,
});

const NO_NUMBER: Wrong = { at: ENTRY.nodeid, bytes: u64(0n) };
const OF_THE_ROOT: Wrong = { at: ENTRY.nodeid, bytes: u64(1n) };
const LARGE = inEntry('size', u64(TOO_LARGE));
/** Of every object that is made. */
const MADE = {
  'no number': NO_NUMBER,
  'the number of the root': OF_THE_ROOT,
  'a size that no file has': LARGE,
};
const NO_FIFO = {
  'a regular file': inEntry('mode', u32(REGULAR)),
  'no type': inEntry('mode', u32(NO_TYPE)),
};

/** What is wrong with the answer, by the request and the call that sends it. */
const ANSWERS: readonly {
  readonly opcode: OpcodeName;
  readonly call: (client: Client, fuse: FuseMount) => Promise<string>;
  readonly wrong: Readonly<Record<string, Wrong>>;
}[] = [
  {
    opcode: 'LOOKUP',
    call: (client, fuse) => client.errno.stat({ path: fuse.file('d') }),
    wrong: {
      'no type': inEntry('mode', u32(NO_TYPE)),
      'a size that no file has': LARGE,
      'the number of the root': OF_THE_ROOT,
    },
  },
  {
    opcode: 'CREATE',
    call: (client, fuse) => client.errno.open({ path: fuse.file('made'), flags: 'O_RDWR|O_CREAT' }),
    wrong: { ...MADE, 'a directory': inEntry('mode', u32(DIRECTORY)) },
  },
  {
    opcode: 'MKDIR',
    call: (client, fuse) => client.errno.mkdir({ path: fuse.file('made') }),
    wrong: { ...MADE, 'a regular file': inEntry('mode', u32(REGULAR)) },
  },
  {
    opcode: 'LINK',
    call: (client, fuse) => client.errno.link({ from: fuse.file('f'), to: fuse.file('made') }),
    wrong: { ...MADE, 'a directory': inEntry('mode', u32(DIRECTORY)) },
  },
  {
    opcode: 'MKNOD',
    call: (client, fuse) => client.errno.mknod({ path: fuse.file('made'), mode: FIFO }),
    wrong: { ...MADE, ...NO_FIFO },
  },
  {
    opcode: 'SYMLINK',
    call: (client, fuse) => client.errno.symlink({ target: 'f', path: fuse.file('made') }),
    wrong: { ...MADE, ...NO_FIFO },
  },
  {
    opcode: 'TMPFILE',
    call: (client, fuse) => openErrno(client, fuse.path, 'O_TMPFILE|O_RDWR'),
    wrong: { ...MADE, 'a directory': inEntry('mode', u32(DIRECTORY)) },
  },
];

/** Whatever a call has made, if it has. */
async function removeMade(client: Client, fuse: FuseMount): Promise<void> {
  await client.errno.unlink({ path: fuse.backing('made') });
  await client.errno.rmdir({ path: fuse.backing('made') });
}

for (const { opcode, call, wrong } of ANSWERS) {
  guestTest(
    `an answer to ${opcode} that cannot be is EIO, and the open file works on (B24)`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse();
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      await client.mkdir({ path: fuse.backing('d') });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      for (const [what, { at, bytes }] of Object.entries(wrong)) {
        const takeBack = await fuse.rule({ match: { opcode }, action: { do: 'patch', at, bytes } });
        t.is(await call(client, fuse), 'EIO', what);
        await takeBack();
        await removeMade(client, fuse);
        t.is(text(await client.pread({ fd, count: 8, offset: 0 })), 'contents', what);
        t.is(await call(client, fuse), 'ok', `${what}: the next answer, which is right`);
        await removeMade(client, fuse);
      }
      await client.close({ fd });
      t.deepEqual(await fuse.dataRequests(), []);
    },
  );
}

/** What makes an open file one that cannot be. */
const BREAKERS: Readonly<
  Record<string, { opcode: OpcodeName; at: number; bytes: Uint8Array; call: string }>
> = {
  'GETATTR says that it is a directory': {
    opcode: 'GETATTR',
    at: ATTR_OUT.attr + ATTR.mode,
    bytes: u32(DIRECTORY),
    call: 'fstat',
  },
  'GETATTR says a size that no file has': {
    opcode: 'GETATTR',
    at: ATTR_OUT.attr + ATTR.size,
    bytes: u64(TOO_LARGE),
    call: 'fstat',
  },
  'SETATTR says that it is a directory': {
    opcode: 'SETATTR',
    at: ATTR_OUT.attr + ATTR.mode,
    bytes: u32(DIRECTORY),
    call: 'ftruncate',
  },
  'SETATTR says a size that no file has': {
    opcode: 'SETATTR',
    at: ATTR_OUT.attr + ATTR.size,
    bytes: u64(TOO_LARGE),
    call: 'ftruncate',
  },
};

for (const [what, { opcode, at, bytes, call }] of Object.entries(BREAKERS)) {
  guestTest(`an open passthrough file is EIO for good when ${what} (B24)`, async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const takeBack = await fuse.rule({ match: { opcode }, times: 1, action: { do: 'patch', at, bytes } });
    const made = call === 'fstat' ? client.errno.fstat({ fd }) : client.errno.ftruncate({ fd, length: 4 });
    t.is(await made, 'EIO', call);
    await takeBack();
    const after = await fuse.position();
    t.is(await client.errno.pread({ fd, count: 8, offset: 0 }), 'EIO', 'pread');
    t.is(await client.errno.pwrite({ fd, data: 'x', offset: 0 }), 'EIO', 'pwrite');
    t.is(await client.errno.fstat({ fd }), 'EIO', 'fstat');
    t.is(await client.errno.fsync({ fd }), 'EIO', 'fsync');
    t.is(await client.errno.ftruncate({ fd, length: 2 }), 'EIO', 'ftruncate');
    t.deepEqual(await fuse.opcodes({ after }), [], 'the server is not asked');
    t.is(await client.errno.close({ fd }), 'EIO', 'close, which closes all the same');
    await fuse.waitFor('RELEASE');
    t.like(await client.stat({ path: fuse.file('f') }), { size: call === 'fstat' ? 8 : 4 }, 'looked up anew');
    t.is(await client.errno.open({ path: fuse.file('f'), flags: 'O_RDWR' }), 'ok', 'and opened anew');
    t.deepEqual(await fuse.dataRequests(), []);
  });
}

guestTest('a number that is used again, of another generation, is another file (B24)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  for (const name of ['f', 'g']) await client.writeFile({ path: fuse.backing(name), data: name });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const again = new Uint8Array([...u64(BigInt(await fuse.nodeid('/f'))), ...u64(1n)]);
  const action = { do: 'patch', at: ENTRY.nodeid, bytes: again } as const;
  await fuse.rule({ match: { opcode: 'LOOKUP', path: '/g' }, action });
  const other = await client.open({ path: fuse.file('g'), flags: 'O_RDONLY' });
  t.is(
    text(await client.pread({ fd: other, count: 8, offset: 0 })),
    'f',
    'what the server has by that number',
  );
  t.is(await client.errno.pread({ fd, count: 8, offset: 0 }), 'EIO', 'the file that had the number: pread');
  t.is(await client.errno.pwrite({ fd, data: 'x', offset: 0 }), 'EIO', 'pwrite');
  t.is(await client.errno.fstat({ fd }), 'EIO', 'fstat');
  t.is(await client.errno.close({ fd }), 'EIO', 'close, which closes all the same');
  await client.close({ fd: other });
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'f');
  t.deepEqual(await fuse.dataRequests(), []);
});
