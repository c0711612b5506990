import { text } from '../lib/bytes.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** The files of a connection in fusectl: who else may write to them, and what they are as files. */

const LIMITS = { max_background: 'max_user_bgreq', congestion_threshold: 'max_user_congthresh' } as const;
/** Where root has every capability, but in its own namespace. */
const ELSEWHERE = ['unshare', '--user', '--map-root-user'];

function control({ connection }: FuseMount, name: string): string {
  return `/sys/fs/fuse/connections/${connection}/${name}`;
}

guestTest(
  'root of another user namespace sets limits of a connection no higher than users may',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await using inside = await guest.client({ launcher: ELSEWHERE });
    for (const [name, parameter] of Object.entries(LIMITS)) {
      const path = control(fuse, name);
      const bound = text(await client.readFile({ path: `/sys/module/fuse/parameters/${parameter}` }));
      const most = Number(bound);
      const set = (value: number): Promise<string> =>
        inside.errno.writeFile({ path, data: String(value), flags: 'O_WRONLY' });
      t.is(await set(most), 'ok', `${name} up to ${parameter}`);
      t.is(await set(most + 1), 'EINVAL', `${name} beyond ${parameter}`);
      t.is(Number(text(await client.readFile({ path }))), most, `${name} as it is then`);
    }
  },
);

guestTest('the directory of a connection has two links, and its files have no position', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  t.is((await client.stat({ path: control(fuse, '.') })).nlink, 2, 'links of the directory');
  for (const name of ['waiting', ...Object.keys(LIMITS)]) {
    const path = control(fuse, name);
    t.is((await client.stat({ path })).nlink, 1, `${name}: links`);
    const fd = await client.open({ path, flags: 'O_RDONLY' });
    t.is(await client.errno.pread({ fd, count: 10, offset: 0 }), 'ESPIPE', `${name}: a read from 0 on`);
    t.is(await client.errno.lseek({ fd, offset: 0, whence: 'SEEK_SET' }), 'ESPIPE', `${name}: a seek`);
    t.regex(text(await client.read({ fd, count: 10 })), /^\d+\n$/, `${name}: a read`);
    await client.close({ fd });
  }
  const fd = await client.open({ path: control(fuse, 'abort'), flags: 'O_WRONLY' });
  t.is(await client.errno.pwrite({ fd, data: '1', offset: 0 }), 'ESPIPE', 'abort: a write at 0');
  t.is(await client.errno.statfs({ path: fuse.path }), 'ok', 'which aborts nothing');
  t.is(await client.write({ fd, data: 'now\n' }), 4, 'a write to it is taken whole');
  t.is(await client.errno.statfs({ path: fuse.path }), 'ENOTCONN', 'and aborts the connection');
  await client.close({ fd });
});
