import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';

/** Reads and writes of no bytes on an overlay: they give 0 and change nothing (read(2), write(2)). */

guestTest('reading or writing no bytes on an overlay gives 0 and changes nothing', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  const [lower = '', upper = ''] = layers;
  await fill(client, lower, ['below']);
  await fill(client, upper, ['above']);
  await using overlay = await over(guest, client, layers);
  for (const name of ['below', 'above']) {
    const path = overlay.file(name);
    const fd = await client.open({ path, flags: 'O_RDONLY' });
    await client.lseek({ fd, offset: 3, whence: 'SEEK_SET' });
    t.is((await client.read({ fd, count: 0 })).length, 0, `${name}: read`);
    t.is((await client.pread({ fd, count: 0, offset: 2 })).length, 0, `${name}: pread`);
    t.is((await client.pread({ fd, count: 0, offset: 1000 })).length, 0, `${name}: pread behind the end`);
    t.is(await client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' }), 3, `${name}: where it is`);
    await client.close({ fd });
  }
  for (const flags of ['O_RDWR', 'O_RDWR|O_APPEND']) {
    const fd = await client.open({ path: overlay.file('above'), flags });
    const before = await client.fstat({ fd });
    t.is(await client.write({ fd, data: '' }), 0, `${flags}: write`);
    t.is(await client.pwrite({ fd, data: '', offset: 1000 }), 0, `${flags}: pwrite behind the end`);
    t.is(await client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' }), 0, `${flags}: where it is`);
    const after = await client.fstat({ fd });
    t.deepEqual([after.size, after.mtimeNs], [before.size, before.mtimeNs], `${flags}: what it is`);
    await client.close({ fd });
  }
  t.is(text(await client.readFile({ path: `${upper}/above` })), 'above at the bottom');
});
