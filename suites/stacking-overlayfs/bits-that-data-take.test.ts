import type { Client } from '../lib/client.ts';
import { CAPABILITY, MAY_USE_RAW_SOCKETS } from '../lib/file-capabilities.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';

/** What changes the data of a program on an overlay takes its set-user-ID bit and its capabilities away, as on any filesystem. */

const OWNER = 1500;

async function spliced(who: Client, fd: number): Promise<unknown> {
  const [fdIn, fdOut] = await who.pipe({});
  await who.write({ fd: fdOut, data: 'data' });
  const count = await who.splice({ fdIn, fdOut: fd, offOut: 0, length: 4 });
  for (const end of [fdIn, fdOut]) await who.close({ fd: end });
  return count;
}

/** By what changes the data of an open file; `from` is another one. */
const WRITERS: Readonly<Record<string, (who: Client, fd: number, from: number) => Promise<unknown>>> = {
  pwrite: (who, fd) => who.pwrite({ fd, data: 'data', offset: 0 }),
  splice: spliced,
  copy_file_range: (who, fd, fdIn) =>
    who.copy_file_range({ fdIn, offIn: 0, fdOut: fd, offOut: 0, length: 4 }),
  sendfile: (who, fd, fdIn) => who.sendfile({ fdOut: fd, fdIn, offset: 0, count: 4 }),
  fallocate: (who, fd) => who.fallocate({ fd, offset: 0, length: 8192 }),
};

guestTest(
  'whatever changes the data of a file on an overlay takes the bit and the capabilities away that it has got since its open',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [, upper = ''] = layers;
    const names = Object.keys(WRITERS);
    await fill(client, upper, [...names, 'from']);
    for (const name of names) {
      await client.chown({ path: `${upper}/${name}`, uid: OWNER, gid: OWNER });
      await client.chmod({ path: `${upper}/${name}`, mode: 0o755 });
    }
    await client.chmod({ path: `${upper}/from`, mode: 0o644 });
    await using overlay = await over(guest, client, layers);
    await client.chmod({ path: overlay.path, mode: 0o755 });
    await using owner = await guest.client();
    await owner.chdir({ path: overlay.path });
    await owner.setCredentials({ uid: OWNER, gid: OWNER });
    const from = await owner.open({ path: 'from', flags: 'O_RDONLY' });
    for (const [name, write] of Object.entries(WRITERS)) {
      const fd = await owner.open({ path: name, flags: 'O_RDWR' });
      // In the layer: what the overlay knows of the file is from before.
      const path = `${upper}/${name}`;
      await client.chmod({ path, mode: 0o4755 });
      await client.setxattr({ path, name: CAPABILITY, data: MAY_USE_RAW_SOCKETS });
      await owner.pread({ fd, count: 4, offset: 0 });
      t.is((await client.stat({ path })).mode & 0o7777, 0o4755, `${name}: before`);
      await write(owner, fd, from);
      t.is(((await client.stat({ path })).mode & 0o7777).toString(8), '755', `${name}: the bit`);
      t.is(await client.errno.getxattr({ path, name: CAPABILITY }), 'ENODATA', `${name}: the capabilities`);
      await owner.close({ fd });
    }
    await owner.close({ fd: from });
  },
);
