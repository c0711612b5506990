import type { Client } from '../lib/client.ts';
import { FATTR_FH } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

/** The time of a change that the kernel keeps (FUSE_WRITEBACK_CACHE), told to the server by a SETATTR of its own. */

/** include/uapi/linux/fuse.h */
const FATTR_MTIME = 1 << 5;
const FATTR_CTIME = 1 << 10;

/** Changes to what is known of a file but not to the file, which change its ctime. */
const CHANGES: Readonly<Record<string, (client: Client, fuse: FuseMount) => Promise<unknown>>> = {
  link: (client, fuse) => client.link({ from: fuse.file('f'), to: fuse.file('link') }),
  rename: (client, fuse) => client.rename({ from: fuse.file('f'), to: fuse.file('g') }),
  'unlink of another name': (client, fuse) => client.unlink({ path: fuse.file('other') }),
  setxattr: (client, fuse) => client.setxattr({ path: fuse.file('f'), name: 'user.x', data: 'v' }),
};

/** `valid` and `fh` of each SETATTR. */
async function told(fuse: FuseMount, after: number): Promise<[number, number][]> {
  const requests = await fuse.requests({ opcode: 'SETATTR', after });
  return requests.map(({ args }) => [Number(args['valid']), Number(args['fh'])]);
}

for (const minor of [23, 22]) {
  const times = minor === 23 ? FATTR_MTIME | FATTR_CTIME : FATTR_MTIME;
  guestTest(
    `what a server of version 7.${minor} is told of the time of a change names the open file, where there is one`,
    async (t, guest) => {
      for (const [what, change] of Object.entries(CHANGES)) {
        for (const flags of ['', 'O_RDONLY', 'O_WRONLY']) {
          await using fuse = await mountWritebackCache(guest, { init: { minor } });
          await using client = await guest.client();
          await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
          await client.link({ from: fuse.backing('f'), to: fuse.backing('other') });
          for (const name of ['f', 'other']) await client.stat({ path: fuse.file(name) });
          const fd = flags === '' ? -1 : await client.open({ path: fuse.file('f'), flags });
          const after = await fuse.position();
          await change(client, fuse);
          const [first] = await told(fuse, after);
          const open = flags === 'O_WRONLY';
          const opened = open ? await fuse.waitFor('OPEN') : undefined;
          const wanted = [times | (open ? FATTR_FH : 0), opened?.reply?.open?.fh ?? 0];
          t.deepEqual(first, wanted, `${what}, open ${flags || 'nowhere'}`);
          if (fd >= 0) await client.close({ fd });
        }
      }
    },
  );
}
