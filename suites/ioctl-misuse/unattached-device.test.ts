import { bytes } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';

/** A descriptor of /dev/fuse that belongs to no mount: there is no queue to read, and nobody to answer. */

/** Every use of such a descriptor but its ioctls. `full`, `empty`: pipes, read end and write end. */
const USES: Readonly<
  Record<
    string,
    (client: Client, on: { fd: number; full: [number, number]; empty: [number, number] }) => Promise<string>
  >
> = {
  read: (client, { fd }) => client.errno.read({ fd, count: 2 << 20 }),
  write: (client, { fd }) => client.errno.write({ fd, data: new Uint8Array(16) }),
  'splice out of it': (client, { fd, empty }) =>
    client.errno.splice({ fdIn: fd, fdOut: empty[1], length: 1 << 16 }),
  'splice into it': (client, { fd, full }) => client.errno.splice({ fdIn: full[0], fdOut: fd, length: 16 }),
  O_ASYNC: (client, { fd }) => client.errno.fcntl({ fd, cmd: 'F_SETFL', arg: 'O_ASYNC' }),
};

guestTest(
  'a device without a mount cannot be read, written, spliced or asked for SIGIO, and polls as an error',
  async (t, guest) => {
    await using client = await guest.client();
    const fd = await client.open({ path: '/dev/fuse', flags: 'O_RDWR|O_NONBLOCK' });
    const [full, empty] = [await client.pipe({}), await client.pipe({})];
    await client.write({ fd: full[1], data: bytes('sixteen bytes...') });
    for (const [what, use] of Object.entries(USES)) {
      t.is(await use(client, { fd, full, empty }), 'EPERM', `${what} of a device without a mount`);
    }
    t.is(await client.poll({ fd }), 'err', 'poll of a device without a mount');
    for (const each of [fd, ...full, ...empty]) await client.close({ fd: each });
  },
);
