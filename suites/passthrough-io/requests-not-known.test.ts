import type { Client } from '../lib/client.ts';
import type { OpcodeName } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** ENOSYS says of one kind of request that the server does not know it, and of no other; other errors say nothing. */

/** Open, fsync and close, of a file and of a directory. @returns what fsync gives. */
const FILE = async (client: Client, fuse: FuseMount): Promise<string> => {
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const outcome = await client.errno.fsync({ fd });
  await client.close({ fd });
  return outcome;
};
const DIRECTORY = async (client: Client, fuse: FuseMount): Promise<string> => {
  const fd = await client.open({ path: fuse.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
  const outcome = await client.errno.fsync({ fd });
  await client.close({ fd });
  return outcome;
};

const OF_A_FILE = ['OPEN', 'FSYNC', 'RELEASE'] as const;
const OF_A_DIRECTORY = ['OPENDIR', 'FSYNCDIR', 'RELEASEDIR'] as const;

/** What the server does not know, and what it gets of a file and of a directory afterwards. */
const UNKNOWN: Partial<Readonly<Record<OpcodeName, readonly OpcodeName[]>>> = {
  OPEN: ['FSYNC', ...OF_A_DIRECTORY],
  OPENDIR: [...OF_A_FILE, 'FSYNCDIR'],
  FSYNC: ['OPEN', 'RELEASE', ...OF_A_DIRECTORY],
  FSYNCDIR: [...OF_A_FILE, 'OPENDIR', 'RELEASEDIR'],
  FLUSH: [...OF_A_FILE, ...OF_A_DIRECTORY],
};

guestTest(
  'what a server does not know of files it is still asked of directories, and the other way round',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [unknown, left] of Object.entries(UNKNOWN)) {
      const init = { addFlags: ['NO_OPEN_SUPPORT', 'NO_OPENDIR_SUPPORT'] } as const;
      await using fuse = await guest.mountFuse({ passthrough: 'off', init });
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      await client.mkdir({ path: fuse.backing('d') });
      await fuse.fail(unknown as OpcodeName, 'ENOSYS');
      // A server without OPEN knows no handles.
      for (const opcode of ['FSYNC', 'FSYNCDIR'] as const) {
        if (unknown !== opcode) await fuse.rule({ match: { opcode }, action: EMPTY });
      }
      await FILE(client, fuse);
      await DIRECTORY(client, fuse);
      const after = await fuse.position();
      t.is(await FILE(client, fuse), 'ok', `without ${unknown}: fsync of a file`);
      t.is(await DIRECTORY(client, fuse), 'ok', `without ${unknown}: fsync of a directory`);
      for (const opcode of left) await fuse.waitFor({ opcode, after });
      const asked = await fuse.opcodes({ opcode: [...OF_A_FILE, ...OF_A_DIRECTORY, 'FLUSH'], after });
      t.false(asked.includes(unknown), `${unknown} is not asked again`);
    }
  },
);

/** An answer without a body. */
const EMPTY = { do: 'body', body: new Uint8Array() } as const;

/** Requests whose answer ENOSYS is remembered, and a call that sends one. */
const ASKED_AGAIN: Partial<
  Readonly<Record<OpcodeName, (client: Client, fuse: FuseMount, fd: number) => Promise<string>>>
> = {
  OPEN: (client, fuse) => client.errno.open({ path: fuse.file('f'), flags: 'O_RDONLY' }),
  OPENDIR: (client, fuse) => client.errno.open({ path: fuse.file('d'), flags: 'O_RDONLY|O_DIRECTORY' }),
  FLUSH: async (client, _fuse, fd) => client.errno.close({ fd: await client.dup({ fd }) }),
  FSYNC: (client, _fuse, fd) => client.errno.fsync({ fd }),
};

guestTest(
  'an error that is not ENOSYS is the error of one call, and the server is asked again',
  async (t, guest) => {
    const init = { addFlags: ['NO_OPEN_SUPPORT', 'NO_OPENDIR_SUPPORT'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', init });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await client.mkdir({ path: fuse.backing('d') });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    for (const [opcode, call] of Object.entries(ASKED_AGAIN)) {
      for (const errno of ['EOPNOTSUPP', 'ENOTTY', 'EINVAL']) {
        const after = await fuse.position();
        const match = { opcode: opcode as OpcodeName };
        await fuse.fail(match, errno, 2);
        t.is(await call(client, fuse, fd), errno, `${opcode}: the first call`);
        t.is(await call(client, fuse, fd), errno, `${opcode}: the second call`);
        t.is((await fuse.requests({ ...match, after })).length, 2, `${opcode} after ${errno}`);
      }
    }
    await client.close({ fd });
  },
);
