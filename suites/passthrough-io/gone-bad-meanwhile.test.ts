import type { Client } from '../lib/client.ts';
import { ATTR, ATTR_OUT, entryAnswer, u32 } from '../lib/entry-answer.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/**
 * What the server says to be something else while a call goes on: permission has been given, and what the call is for
 * is still to come. It is EIO, and the server is asked for nothing more of it.
 */

/** Longer than any test. Seconds. */
const LONG = 100_000;
const FIFO = 0o010_644;

interface Call {
  /** Makes what it is done with, where the server has it. */
  readonly before: (client: Client, path: string) => Promise<unknown>;
  /** Of a directory: whether the kernel knows before that the name `x` is there, or is not. */
  readonly known?: boolean;
  /** With a descriptor of what `before` has made. */
  readonly make: (client: Client, fd: number, fuse: FuseMount) => Promise<string>;
}

const file = (client: Client, path: string): Promise<unknown> => client.writeFile({ path, data: 'contents' });
const empty = (client: Client, path: string): Promise<unknown> => client.mkdir({ path });
async function withFile(client: Client, path: string): Promise<void> {
  await client.mkdir({ path });
  await file(client, `${path}/x`);
}
async function withDirectory(client: Client, path: string): Promise<void> {
  await client.mkdir({ path });
  await client.mkdir({ path: `${path}/x` });
}

const itself = (fd: number): string => `/proc/self/fd/${fd}`;

const IN_A_DIRECTORY: Readonly<Record<string, Call>> = {
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
    before: withDirectory,
    known: true,
    make: (client, dirfd) => client.errno.rmdir({ dirfd, path: 'x' }),
  },
  'rename to another directory': {
    before: withFile,
    known: true,
    make: async (client, dirfd, fuse) => {
      const errno = await client.errno.rename({ from: `${itself(dirfd)}/x`, to: fuse.file('y') });
      if (errno === 'ok') await client.unlink({ path: fuse.file('y') });
      return errno;
    },
  },
};

const OF_A_FILE: Readonly<Record<string, Call>> = {
  'an open': {
    before: file,
    make: (client, fd) => client.errno.open({ path: itself(fd), flags: 'O_RDONLY' }),
  },
  truncate: {
    before: file,
    make: (client, fd) => client.errno.truncate({ path: itself(fd), length: 3 }),
  },
  setxattr: {
    before: file,
    make: (client, fd) => client.errno.setxattr({ path: itself(fd), name: 'user.a', data: 'value' }),
  },
  getxattr: {
    before: async (client, path) => {
      await file(client, path);
      await client.setxattr({ path, name: 'user.a', data: 'value' });
    },
    make: (client, fd) => client.errno.getxattr({ path: itself(fd), name: 'user.a' }),
  },
};

const CALLS = [
  ...Object.entries(IN_A_DIRECTORY).map(([what, call]) => ({ what, in: 'in a directory', ...call })),
  ...Object.entries(OF_A_FILE).map(([what, call]) => ({ what, in: 'of a file', ...call })),
];

for (const { what, in: of, before, known = false, make } of CALLS) {
  guestTest(
    `${what} is EIO, and not sent, ${of} that goes bad once permission was checked (B24)`,
    async (t, guest) => {
      // The kernel asks for the mode at every check, which is when it can be held up.
      await using fuse = await guest.mountFuse({
        passthrough: 'off',
        defaultPermissions: true,
        entryValidS: LONG,
      });
      await using client = await guest.client();
      await using other = await guest.client();
      const prepare = async (name: string): Promise<{ fd: number; nodeid: number }> => {
        await before(client, fuse.backing(name));
        const fd = await client.open({ path: fuse.file(name), flags: 'O_RDONLY' });
        if (known && before === empty) {
          const body = entryAnswer({ nodeid: 0n, entryValidS: LONG });
          await fuse.rule({ match: { opcode: 'LOOKUP', path: `/${name}/x` }, action: { do: 'body', body } });
        }
        if (known) await client.errno.stat({ dirfd: fd, path: 'x' });
        return { fd, nodeid: await fuse.nodeid(`/${name}`) };
      };

      const good = await prepare('good');
      const start = await fuse.position();
      t.is(await make(client, good.fd, fuse), 'ok', `${of} that stays one`);
      const sent = await fuse.opcodes({ nodeid: good.nodeid, after: start });
      const asksFor = sent.findIndex((opcode) => opcode !== 'GETATTR');
      const checks = sent.filter((opcode) => opcode === 'GETATTR').length;
      t.true(checks > 0, 'permission is checked');
      t.true(asksFor > 0, 'before the server is asked for what it is about');

      for (let nth = 1; nth <= checks; nth++) {
        const where = `after check ${nth} of ${checks}`;
        const { fd, nodeid } = await prepare(`bad-${nth}`);
        const same = await other.open({ path: fuse.file(`bad-${nth}`), flags: 'O_RDONLY' });
        const hold = await fuse.hold({ opcode: 'GETATTR', nodeid });
        const call = make(client, fd, fuse);
        let check = await hold.arrived();
        for (let passed = 1; passed < nth; passed++) {
          await hold.release(check);
          check = await hold.arrived();
        }
        const action = { do: 'patch', at: ATTR_OUT.attr + ATTR.mode, bytes: u32(FIFO) } as const;
        await fuse.rule({ match: { opcode: 'GETATTR', nodeid }, times: 1, action });
        const spoilt = await other.errno.fstat({ fd: same, flags: 'AT_STATX_FORCE_SYNC' });
        t.is(spoilt, 'EIO', 'it is something else by now');
        const after = await fuse.position();
        await hold.stop();
        await hold.release(check);
        t.is(await call, 'EIO', where);
        t.deepEqual(await fuse.opcodes({ nodeid, after }), [], `${where}: what the server is asked`);
        await client.errno.close({ fd });
        await other.errno.close({ fd: same });
      }
      await client.errno.close({ fd: good.fd });
    },
  );
}
