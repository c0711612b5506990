import { pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openFlagNames } from '../lib/open-flag-names.ts';
import { Witness } from '../lib/witness.ts';

const BLOCK = 4096;

interface OpenCase {
  /** Flags of open(2) on the FUSE file. */
  readonly flags: string;
  /** Flags with which the kernel opens the backing file, where it does. */
  readonly opened: string;
  /** Flags of the reads and writes that follow, where they are not those of the open. */
  readonly used?: string;
  /** Flags of writes where the registered file, which is open for both, is used as it is. */
  readonly registered?: string;
}

const CASES: readonly OpenCase[] = [
  { flags: 'O_RDONLY', opened: 'O_RDONLY' },
  { flags: 'O_WRONLY', opened: 'O_WRONLY' },
  { flags: 'O_RDWR', opened: 'O_RDWR' },
  { flags: 'O_RDWR|O_APPEND', opened: 'O_RDWR|O_APPEND' },
  { flags: 'O_RDWR|O_DIRECT', opened: 'O_RDWR|O_DIRECT' },
  { flags: 'O_RDWR|O_DSYNC', opened: 'O_RDWR|O_DSYNC', registered: 'O_RDWR|O_DSYNC' },
  { flags: 'O_RDWR|O_SYNC', opened: 'O_RDWR|O_SYNC', registered: 'O_RDWR|O_SYNC' },
  { flags: 'O_RDWR|O_NONBLOCK', opened: 'O_RDWR|O_NONBLOCK' },
  { flags: 'O_RDONLY|O_NOATIME', opened: 'O_RDONLY|O_NOATIME' },
  { flags: 'O_RDONLY|O_NOFOLLOW', opened: 'O_RDONLY|O_NOFOLLOW' },
  { flags: 'O_RDWR|O_CLOEXEC|O_NOCTTY', opened: 'O_RDWR' },
  { flags: 'O_RDWR|O_CREAT', opened: 'O_RDWR' },
  { flags: 'O_RDWR|O_TRUNC', opened: 'O_RDWR|O_TRUNC', used: 'O_RDWR' },
];

/** Writes and reads one block through a descriptor, as far as it is open for that. */
async function useIt(client: Client, fd: number, flags: string): Promise<void> {
  if (!flags.startsWith('O_RDONLY')) await client.pwrite({ fd, data: pattern(BLOCK), offset: 0 });
  if (!flags.startsWith('O_WRONLY')) await client.pread({ fd, count: BLOCK, offset: 0 });
}

guestTest(
  'the flags of an open reach the backing file, and so do they with each read and write (A7, A10, A31)',
  async (t, guest) => {
    await using witness = await Witness.mount(guest);
    await using client = await guest.client();
    const { reopensBackingFile } = guest.expected;
    for (const { flags, opened, used = opened, registered = 'O_RDWR' } of CASES) {
      await client.writeFile({ path: witness.upper.backing('f'), data: pattern(2 * BLOCK) });
      const after = await witness.lower.position();
      const fd = await client.open({ path: witness.upper.file('f'), flags });
      const opens = (await witness.backingOpens(after)).map(({ args }) => openFlagNames(args['flags']));
      t.deepEqual(opens, [reopensBackingFile ? opened : 'O_RDWR'], `${flags}: OPEN of the backing file`);

      await useIt(client, fd, flags);
      const sent = await witness.sent(['READ', 'WRITE'], after);
      for (const { opcode, args } of sent) {
        const asIs = opcode === 'READ' ? 'O_RDWR' : registered;
        t.is(openFlagNames(args['flags']), reopensBackingFile ? used : asIs, `${flags}: ${opcode}`);
      }
      const expected = flags.startsWith('O_RDONLY')
        ? ['READ']
        : flags === 'O_WRONLY'
          ? ['WRITE']
          : ['WRITE', 'READ'];
      t.deepEqual(
        sent.map(({ opcode }) => opcode),
        expected,
        flags,
      );
      await client.close({ fd });
    }
    t.deepEqual(await witness.upper.dataRequests(), []);
  },
);

guestTest('a file that is made is opened once below, without O_CREAT and O_EXCL (A3)', async (t, guest) => {
  await using witness = await Witness.mount(guest);
  await using client = await guest.client();
  const flags = 'O_RDWR|O_CREAT|O_EXCL|O_APPEND';
  const fd = await client.open({ path: witness.upper.file('new'), flags });
  const opens = (await witness.backingOpens()).map(({ args }) => openFlagNames(args['flags']));
  t.deepEqual(opens, [guest.expected.reopensBackingFile ? 'O_RDWR|O_APPEND' : 'O_RDWR']);
  for (const data of ['one', 'two']) await client.write({ fd, data });
  const offsets = (await witness.sent('WRITE')).map(({ args }) => args['offset']);
  t.deepEqual(offsets, [0, 3]);
  t.is((await client.fstat({ fd })).size, 6);
  await client.close({ fd });
  t.deepEqual(await witness.upper.dataRequests(), []);
});

guestTest('each open of a file is an open of the backing file of its own (C3)', async (t, guest) => {
  guest.needs(guest.expected.reopensBackingFile, 'open of the backing file for each open');
  await using witness = await Witness.mount(guest);
  await using client = await guest.client();
  await client.writeFile({ path: witness.upper.backing('f'), data: pattern(100) });
  const reader = await client.open({ path: witness.upper.file('f'), flags: 'O_RDONLY' });
  const writer = await client.open({ path: witness.upper.file('f'), flags: 'O_WRONLY' });
  const handles = (await witness.backingOpens()).map(({ reply }) => reply?.open?.fh);
  t.is(new Set(handles).size, 2);

  await client.pread({ fd: reader, count: 10, offset: 0 });
  await client.pwrite({ fd: writer, data: 'x', offset: 0 });
  const used = (await witness.sent(['READ', 'WRITE'])).map(({ opcode, args }) => [opcode, args['fh']]);
  t.deepEqual(used, [
    ['READ', handles[0]],
    ['WRITE', handles[1]],
  ]);
  await client.close({ fd: reader });
  await client.close({ fd: writer });
});

guestTest(
  'a backing file that cannot be opened gives EIO and is not opened twice (C15)',
  async (t, guest) => {
    guest.needs(guest.expected.reopensBackingFile, 'open of the backing file for each open');
    await using witness = await Witness.mount(guest);
    await using client = await guest.client();
    await client.writeFile({ path: witness.upper.backing('f'), data: pattern(100) });
    for (const errno of ['EACCES', 'ENOSPC', 'ENXIO']) {
      // The registration is the first open of the two.
      const takeBack = await witness.lower.rule({
        match: { opcode: 'OPEN' },
        nth: 2,
        action: { do: 'error', errno },
      });
      const after = await witness.lower.position();
      t.is(await client.errno.open({ path: witness.upper.file('f'), flags: 'O_RDWR' }), 'EIO', errno);
      t.is((await witness.lower.requests({ opcode: 'OPEN', after })).length, 2, errno);
      await takeBack();
    }
    const fd = await client.open({ path: witness.upper.file('f'), flags: 'O_RDWR' });
    t.is((await client.pread({ fd, count: 200, offset: 0 })).length, 100, 'it opens when it can');
    await client.close({ fd });
  },
);
