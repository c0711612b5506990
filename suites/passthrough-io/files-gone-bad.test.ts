import { aclFor } from '../lib/access-control-list.ts';
import type { Client } from '../lib/client.ts';
import { ATTR, ATTR_OUT, u32 } from '../lib/entry-answer.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What may still be asked of an open file whose server has said of it what cannot be: nothing. */

const PAGE = 4096;
const [DIRECTORY, REGULAR] = [0o040_755, 0o100_644];
/** linux/fs.h */
const [GETFLAGS, FSGETXATTR] = [0x8008_6601, 0x801c_581f];
/** An ioctl without data. */
const PLAIN = 0x6701;

/** By what is called: of an open file, whose path goes by its descriptor, so that no name is looked up. */
const CALLS: Readonly<Record<string, (client: Client, fd: number) => Promise<string>>> = {
  ioctl: (client, fd) => client.errno.ioctl({ fd, request: PLAIN }),
  'ioctl with GETFLAGS': (client, fd) =>
    client.errno.ioctl({ fd, request: GETFLAGS, arg: new Uint8Array(8) }),
  'ioctl with FSGETXATTR': (client, fd) =>
    client.errno.ioctl({ fd, request: FSGETXATTR, arg: new Uint8Array(28) }),
  listxattr: (client, fd) => client.errno.listxattr({ path: `/proc/self/fd/${fd}` }),
  getxattr: (client, fd) => client.errno.getxattr({ path: `/proc/self/fd/${fd}`, name: 'user.a' }),
  setxattr: (client, fd) =>
    client.errno.setxattr({ path: `/proc/self/fd/${fd}`, name: 'user.a', data: 'value' }),
  // Whose names the kernel lets pass without a look at the file.
  'setxattr of a trusted name': (client, fd) =>
    client.errno.setxattr({ path: `/proc/self/fd/${fd}`, name: 'trusted.a', data: 'value' }),
  'setxattr of a security name': (client, fd) =>
    client.errno.setxattr({ path: `/proc/self/fd/${fd}`, name: 'security.a', data: 'value' }),
  removexattr: (client, fd) => client.errno.removexattr({ path: `/proc/self/fd/${fd}`, name: 'user.a' }),
  'getxattr of a list': (client, fd) =>
    client.errno.getxattr({ path: `/proc/self/fd/${fd}`, name: 'system.posix_acl_access' }),
  'setxattr of a list': (client, fd) =>
    client.errno.setxattr({
      path: `/proc/self/fd/${fd}`,
      name: 'system.posix_acl_access',
      data: aclFor([1000], 4),
    }),
  'removexattr of a list': (client, fd) =>
    client.errno.removexattr({ path: `/proc/self/fd/${fd}`, name: 'system.posix_acl_access' }),
};

/** Has the server say once that the open file is of another type. */
async function goesBad(client: Client, fuse: FuseMount, fd: number, mode: number): Promise<string> {
  const action = { do: 'patch', at: ATTR_OUT.attr + ATTR.mode, bytes: u32(mode) } as const;
  await fuse.rule({ match: { opcode: 'GETATTR' }, times: 1, action });
  return client.errno.fstat({ fd, flags: 'AT_STATX_FORCE_SYNC' });
}

for (const [kind, flags, becomes] of [
  ['a file', 'O_RDONLY', DIRECTORY],
  ['a directory', 'O_RDONLY|O_DIRECTORY', REGULAR],
] as const) {
  guestTest(
    `of ${kind} that changed its type nothing is asked of the server any more (B24)`,
    async (t, guest) => {
      for (const posixAcl of [false, true]) {
        const init = posixAcl ? ({ addFlags: ['POSIX_ACL'] } as const) : {};
        await using fuse = await guest.mountFuse({ passthrough: 'off', init });
        await using client = await guest.client();
        if (kind === 'a file') await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
        else await client.mkdir({ path: fuse.backing('f') });
        // Whatever it is, EIO it is not.
        await fuse.fail('IOCTL', 'EPERM');
        const fd = await client.open({ path: fuse.file('f'), flags });
        const with_ = posixAcl ? 'with POSIX_ACL' : 'without POSIX_ACL';
        for (const [what, call] of Object.entries(CALLS)) {
          t.not(await call(client, fd), 'EIO', `${what} before, ${with_}`);
        }
        t.is(await goesBad(client, fuse, fd, becomes), 'EIO', with_);
        const after = await fuse.position();
        for (const [what, call] of Object.entries(CALLS))
          t.is(await call(client, fd), 'EIO', `${what}, ${with_}`);
        if (kind === 'a directory') t.is(await client.errno.readdirFd({ fd }), 'EIO', `readdir, ${with_}`);
        t.deepEqual(await fuse.opcodes({ after }), [], with_);
        await client.errno.close({ fd });
      }
    },
  );
}

guestTest(
  'of a file that changed its type nothing is read ahead, and a mapping of it has no page that was not there',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await using mapper = await guest.client();
    for (const name of ['f', 'good']) {
      await client.writeFile({ path: fuse.backing(name), data: new Uint8Array(4 * PAGE).fill(0x6f) });
    }
    const ahead: Readonly<Record<string, (fd: number) => Promise<unknown>>> = {
      'posix_fadvise(POSIX_FADV_WILLNEED)': (fd) =>
        client.posix_fadvise({ fd, offset: 0, length: PAGE, advice: 'POSIX_FADV_WILLNEED' }),
      readahead: (fd) => client.readahead({ fd, offset: 2 * PAGE, count: PAGE }),
    };
    const read = async (after: number): Promise<number> => {
      // A request that is sent now comes after those of reading ahead.
      await client.stat({ path: fuse.path });
      return (await fuse.requests({ opcode: 'READ', after })).length;
    };
    const good = await client.open({ path: fuse.file('good'), flags: 'O_RDONLY' });
    for (const [what, call] of Object.entries(ahead)) {
      const after = await fuse.position();
      await call(good);
      t.true((await read(after)) > 0, `${what} asks for what is not there`);
    }
    await client.close({ fd: good });

    const [fd, mapped] = [
      await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' }),
      await mapper.open({ path: fuse.file('f'), flags: 'O_RDONLY' }),
    ];
    const map = await mapper.mmap({ fd: mapped, length: 4 * PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
    t.is(await goesBad(client, fuse, fd, DIRECTORY), 'EIO');
    for (const [what, call] of Object.entries(ahead)) {
      const after = await fuse.position();
      await call(fd);
      t.is(await read(after), 0, `${what} of a file gone bad asks for nothing`);
    }
    const after = await fuse.position();
    const loading = mapper.errno.mread({ map, offset: 0, length: 1 });
    loading.catch(() => undefined);
    t.like(await mapper.exited(), { signal: 'SIGBUS' }, 'a load from a page that was not there');
    t.is(await read(after), 0, 'a load asks for nothing');
    await client.errno.close({ fd });
  },
);
