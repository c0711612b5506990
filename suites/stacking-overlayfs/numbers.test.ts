import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';

/** Device and inode numbers on an overlay whose layers are all on one filesystem. */

/** Of one the numbers have 32 bits at most, so that there would be room for the layer, of the other they may have more. */
const FILESYSTEMS = ['ext4', 'tmpfs'] as const;
const NAMES = ['kept', 'copied', 'd', 'd/copied'];
const IN_LOWER = ['kept', 'copied', 'd/', 'd/copied'];

/** Device, and how far each number is from that of the lower layer. */
async function numbersOf(client: Client, at: string, lower: string): Promise<Record<string, unknown>> {
  const top = await client.stat({ path: at });
  const told: Record<string, unknown> = {};
  for (const name of NAMES) {
    const { devMajor, devMinor, ino } = await client.stat({ path: `${at}/${name}` });
    const native = await client.stat({ path: `${lower}/${name}` });
    const oneDevice = devMajor === top.devMajor && devMinor === top.devMinor;
    told[name] = { oneDevice, apart: ino - native.ino };
  }
  return told;
}

/** All numbers are those of the lower layer, on one device. */
const AS_BELOW = Object.fromEntries(NAMES.map((name) => [name, { oneDevice: true, apart: 0 }]));

guestTest(
  'with all layers on one filesystem there is one device, and numbers stay over copy-up and another mount',
  async (t, guest) => {
    await using client = await guest.client();
    for (const below of FILESYSTEMS) {
      for (const options of ['xino=off', 'xino=on', undefined]) {
        const what = `${below}, ${options ?? 'no option'}`;
        const at = await guest.directory(below, 'layers');
        const [lower, upper, work] = [`${at}/lower`, `${at}/upper`, `${at}/work`];
        for (const path of [lower, upper, work]) await client.mkdir({ path });
        await fill(client, lower, IN_LOWER);
        const mount = () => guest.mountOverlay({ lower, upper, work, options }, client);
        {
          await using overlay = await mount();
          t.deepEqual(await numbersOf(client, overlay.path, lower), AS_BELOW, `${what}: at first`);
          for (const name of NAMES.filter((name) => name.endsWith('copied'))) {
            await client.chmod({ path: overlay.file(name), mode: 0o600 });
            const { ino } = await client.stat({ path: `${lower}/${name}` });
            t.not((await client.stat({ path: `${upper}/${name}` })).ino, ino, `${name} is another file now`);
          }
          t.deepEqual(await numbersOf(client, overlay.path, lower), AS_BELOW, `${what}: copied up`);
        }
        await using overlay = await mount();
        t.deepEqual(await numbersOf(client, overlay.path, lower), AS_BELOW, `${what}: mounted again`);
      }
    }
  },
);

guestTest(
  'without an upper layer, too, numbers of one filesystem are told as they are, on one device',
  async (t, guest) => {
    await using client = await guest.client();
    for (const below of FILESYSTEMS) {
      const [lower, other] = [await guest.directory(below, 'lower'), await guest.directory(below, 'other')];
      await fill(client, lower, IN_LOWER);
      for (const options of ['xino=off', 'xino=on', undefined]) {
        await using overlay = await guest.mountOverlay({ lower: [other, lower], options }, client);
        const told = await numbersOf(client, overlay.path, lower);
        t.deepEqual(told, AS_BELOW, `${below}, ${options ?? 'no option'}`);
      }
    }
  },
);

guestTest(
  'with all layers on one filesystem /proc/locks has the numbers that stat tells, of directories as well',
  async (t, guest) => {
    await using client = await guest.client();
    const [lower, other] = [await guest.directory('ext4', 'lower'), await guest.directory('ext4', 'other')];
    await fill(client, lower, IN_LOWER);
    await using overlay = await guest.mountOverlay({ lower: [other, lower] }, client);
    for (const name of ['kept', 'd', 'd/copied']) {
      const fd = await client.open({ path: overlay.file(name), flags: 'O_RDONLY' });
      await client.flock({ fd, operation: 'LOCK_EX' });
      const locks = text(await client.readFile({ path: '/proc/locks' }));
      const ours = locks.split('\n').filter((line) => line.includes(` ${client.pid} `));
      const { ino } = await client.fstat({ fd });
      t.is(ours.length, 1, locks);
      t.regex(ours[0] ?? '', new RegExp(`:${ino} 0 EOF$`, 'u'), name);
      await client.close({ fd });
    }
  },
);
