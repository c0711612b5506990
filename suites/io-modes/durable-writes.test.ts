import { pattern } from '../lib/bytes.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openFlagNames } from '../lib/open-flag-names.ts';

/** Writes that have to be on the disk when they return (O_SYNC, RWF_SYNC, a mount with MS_SYNCHRONOUS), and what of them is sent. */

const FDATASYNC = 1 << 0;

/** Ways to ask for it: flags of the open, of the write and of the mount. */
const WAYS = [
  { open: '', write: '', mount: '', flags: 'O_RDWR', syncs: [] },
  { open: '', write: 'RWF_DSYNC', mount: '', flags: 'O_RDWR|O_DSYNC', syncs: [FDATASYNC] },
  { open: '', write: 'RWF_SYNC', mount: '', flags: 'O_RDWR|O_SYNC', syncs: [0] },
  { open: '|O_DSYNC', write: '', mount: '', flags: 'O_RDWR|O_DSYNC', syncs: [FDATASYNC] },
  { open: '|O_DSYNC', write: 'RWF_SYNC', mount: '', flags: 'O_RDWR|O_SYNC', syncs: [0] },
  { open: '|O_SYNC', write: '', mount: '', flags: 'O_RDWR|O_SYNC', syncs: [0] },
  { open: '|O_SYNC', write: 'RWF_DSYNC', mount: '', flags: 'O_RDWR|O_SYNC', syncs: [0] },
  { open: '', write: '', mount: 'MS_SYNCHRONOUS', flags: 'O_RDWR|O_DSYNC', syncs: [FDATASYNC] },
] as const;

guestTest(
  'each way to ask for a durable write is told with WRITE, and a cached one is followed by FSYNC of that kind',
  async (t, guest) => {
    await using client = await guest.client();
    for (const mount of ['', 'MS_SYNCHRONOUS']) {
      await using fuse = await guest.mountFuse({
        passthrough: 'off',
        ...(mount === '' ? {} : { flags: mount }),
      });
      await client.writeFile({ path: fuse.backing('f'), data: pattern(100) });
      for (const way of WAYS) {
        if (way.mount !== mount) continue;
        for (const [how, openFlags] of [
          ['cached', 0],
          ['direct', OpenFlag.DIRECT_IO],
        ] as const) {
          await fuse.answerOpen('OPEN', { openFlags }, 1);
          const fd = await client.open({ path: fuse.file('f'), flags: `O_RDWR${way.open}` });
          const after = await fuse.position();
          await client.pwritev2({ fd, chunks: [pattern(50)], offset: 0, flags: way.write });
          const sent = await fuse.requests({ opcode: ['WRITE', 'FSYNC'], after });
          const told = sent.map(({ opcode, args }) =>
            opcode === 'WRITE' ? openFlagNames(args['flags']) : Number(args['fsync_flags']),
          );
          const what = `${how}, ${JSON.stringify({ ...way, flags: undefined, syncs: undefined })}`;
          t.deepEqual(told, [way.flags, ...(how === 'cached' ? way.syncs : [])], what);
          await client.close({ fd });
        }
      }
    }
  },
);

guestTest(
  'a durable cached write whose FSYNC the server refuses gives that error, and an ordinary one asks for none',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern(100) });
    await fuse.fail('FSYNC', 'EDQUOT');
    for (const [flags, write, outcome] of [
      ['O_RDWR|O_SYNC', '', 'EDQUOT'],
      ['O_RDWR|O_DSYNC', '', 'EDQUOT'],
      ['O_RDWR', 'RWF_SYNC', 'EDQUOT'],
      ['O_RDWR', 'RWF_DSYNC', 'EDQUOT'],
      ['O_RDWR', '', 'ok'],
    ] as const) {
      const fd = await client.open({ path: fuse.file('f'), flags });
      const data = { fd, chunks: [pattern(50)], offset: 0, flags: write };
      t.is(await client.errno.pwritev2(data), outcome, `${flags} ${write}`);
      await client.close({ fd });
    }
  },
);
