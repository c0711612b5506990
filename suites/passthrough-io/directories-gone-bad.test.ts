import type { Client } from '../lib/client.ts';
import { ATTR, ATTR_OUT, entryAnswer, u32 } from '../lib/entry-answer.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/**
 * A directory that the server says to be something else while a call in it goes on: permission has been given, and
 * what the call is for is still to come. It is EIO, and the server is asked for nothing more of it.
 */

/** Longer than any test. Seconds. */
const LONG = 100_000;
const REGULAR = 0o100_644;

interface Call {
  /** Makes, where the server has it, what is in the directory. */
  readonly before: (client: Client, directory: string) => Promise<unknown>;
  /** Whether the kernel knows before that the name `x` is there, or is not. */
  readonly known?: boolean;
  readonly make: (client: Client, dirfd: number, fuse: FuseMount) => Promise<string>;
}

const empty = (): Promise<void> => Promise.resolve();
const withFile = (client: Client, directory: string): Promise<unknown> =>
  client.writeFile({ path: `${directory}/x`, data: 'contents' });

const CALLS: Readonly<Record<string, Call>> = {
  'a look at a name': {
    before: withFile,
    make: (client, dirfd) => client.errno.stat({ dirfd, path: 'x' }),
  },
  'an open that creates': {
    before: empty,
    known: true,
    make: (client, dirfd) => client.errno.open({ dirfd, path: 'x', flags: 'O_RDWR|O_CREAT' }),
  },
  'an open of the directory itself': {
    before: empty,
    make: (client, dirfd) => client.errno.open({ dirfd, path: '.', flags: 'O_RDONLY|O_DIRECTORY' }),
  },
  mkdir: {
    before: empty,
    known: true,
    make: (client, dirfd) => client.errno.mkdir({ dirfd, path: 'x' }),
  },
  unlink: {
    before: withFile,
    known: true,
    make: (client, dirfd) => client.errno.unlink({ dirfd, path: 'x' }),
  },
  rmdir: {
    before: (client, directory) => client.mkdir({ path: `${directory}/x` }),
    known: true,
    make: (client, dirfd) => client.errno.rmdir({ dirfd, path: 'x' }),
  },
  'rename to another directory': {
    before: withFile,
    known: true,
    make: (client, dirfd, fuse) =>
      client.errno.rename({ from: `/proc/self/fd/${dirfd}/x`, to: fuse.file('y') }),
  },
};

for (const [what, { before, known = false, make }] of Object.entries(CALLS)) {
  guestTest(
    `${what} is EIO, and not sent, in a directory that goes bad once permission was checked (B24)`,
    async (t, guest) => {
      // The kernel asks for the mode of the directory at every check, which is when it can be held up.
      await using fuse = await guest.mountFuse({
        passthrough: 'off',
        defaultPermissions: true,
        entryValidS: LONG,
      });
      await using client = await guest.client();
      await using other = await guest.client();
      const prepare = async (name: string): Promise<{ fd: number; nodeid: number }> => {
        await client.mkdir({ path: fuse.backing(name) });
        await before(client, fuse.backing(name));
        const fd = await client.open({ path: fuse.file(name), flags: 'O_RDONLY|O_DIRECTORY' });
        if (known && before === empty) {
          const body = entryAnswer({ nodeid: 0n, entryValidS: LONG });
          await fuse.rule({ match: { opcode: 'LOOKUP', path: `/${name}/x` }, action: { do: 'body', body } });
        }
        if (known) await client.errno.stat({ dirfd: fd, path: 'x' });
        return { fd, nodeid: await fuse.nodeid(`/${name}`) };
      };

      const good = await prepare('good');
      const start = await fuse.position();
      t.is(await make(client, good.fd, fuse), 'ok', 'in a directory that stays one');
      const checks = (await fuse.requests({ opcode: 'GETATTR', nodeid: good.nodeid, after: start })).length;
      t.true(checks > 0, 'permission is checked');
      if (what.startsWith('rename')) await client.unlink({ path: fuse.file('y') });

      for (let nth = 1; nth <= checks; nth++) {
        const where = `after check ${nth} of ${checks}`;
        const { fd, nodeid } = await prepare(`bad-${nth}`);
        const sameOne = await other.open({ path: fuse.file(`bad-${nth}`), flags: 'O_RDONLY|O_DIRECTORY' });
        const hold = await fuse.hold({ opcode: 'GETATTR', nodeid });
        const call = make(client, fd, fuse);
        let check = await hold.arrived();
        for (let passed = 1; passed < nth; passed++) {
          await hold.release(check);
          check = await hold.arrived();
        }
        const bytes = u32(REGULAR);
        const action = { do: 'patch', at: ATTR_OUT.attr + ATTR.mode, bytes } as const;
        await fuse.rule({ match: { opcode: 'GETATTR', nodeid }, times: 1, action });
        const spoilt = await other.errno.fstat({ fd: sameOne, flags: 'AT_STATX_FORCE_SYNC' });
        t.is(spoilt, 'EIO', 'it is no directory any more');
        const after = await fuse.position();
        await hold.stop();
        await hold.release(check);
        t.is(await call, 'EIO', where);
        t.deepEqual(await fuse.opcodes({ nodeid, after }), [], `${where}: what the server is asked`);
        await client.errno.close({ fd });
        await other.errno.close({ fd: sameOne });
      }
      await client.errno.close({ fd: good.fd });
    },
  );
}
