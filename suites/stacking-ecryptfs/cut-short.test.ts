import { concat, firstDifference, pattern } from '../lib/bytes.ts';
import { ecryptfsOnFuse } from '../lib/ecryptfs-on-fuse.ts';
import { guestTest } from '../lib/guest-test.ts';
import { memoryThatEnds } from '../lib/memory-that-ends.ts';

/** Calls on ecryptfs that are done in part only: of memory that ends, by a process that is killed. */

const PAGE = 4096;
const HEADER_BYTES = 2 * PAGE;

guestTest(
  'a write of a page from memory that ends keeps the rest of the page, read before or not (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const old = pattern(3 * PAGE);
    const [from, there] = [pattern(PAGE, 7), PAGE / 2];
    // The page is written as a whole, so that nobody reads it first: and then there is half of it.
    const wanted = concat(from.subarray(PAGE - there), old.subarray(there));
    const names = ['read', 'not read'];
    {
      await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
      for (const name of names) await client.writeFile({ path: ecryptfs.file(name), data: old });
      t.is(await ecryptfs.unmount(), 'ok');
    }
    const map = await memoryThatEnds(client, from);
    {
      await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
      for (const name of names) {
        const path = ecryptfs.file(name);
        if (name === 'read') t.is(firstDifference(await client.readFile({ path }), old), undefined);
        const fd = await client.open({ path, flags: 'O_RDWR' });
        const written = await client.writeFrom({ fd, map, offset: PAGE - there, length: PAGE });
        t.is(written, there, `${name}: what there is of the memory`);
        t.is(
          await client.errno.writeFrom({ fd, map, offset: PAGE, length: PAGE }),
          'EFAULT',
          `${name}: no memory at all`,
        );
        await client.close({ fd });
        t.is(firstDifference(await client.readFile({ path }), wanted), undefined, `${name}: the file`);
      }
      t.is(await ecryptfs.unmount(), 'ok');
    }
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    for (const name of names) {
      const seen = await client.readFile({ path: ecryptfs.file(name) });
      t.is(firstDifference(seen, wanted), undefined, `${name}: the file, mounted anew`);
    }
    await client.munmap({ map });
  },
);

guestTest(
  'a write at the end from memory that ends makes a file on ecryptfs longer by what there was (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const [from, there] = [pattern(PAGE, 7), PAGE / 2];
    const map = await memoryThatEnds(client, from);
    for (const before of [0, 100, PAGE]) {
      const name = String(before);
      const wanted = concat(pattern(before), from.subarray(PAGE - there));
      {
        await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
        const path = ecryptfs.file(name);
        await client.writeFile({ path, data: pattern(before) });
        const fd = await client.open({ path, flags: 'O_RDWR|O_APPEND' });
        const written = await client.writeFrom({ fd, map, offset: PAGE - there, length: PAGE });
        t.is(written, there, `behind ${name} bytes: what there is of the memory`);
        t.is((await client.fstat({ fd })).size, before + there, `behind ${name} bytes: size`);
        await client.close({ fd });
      }
      await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
      const seen = await client.readFile({ path: ecryptfs.file(name) });
      t.is(seen.length, wanted.length, `behind ${name} bytes: size, mounted anew`);
      t.is(firstDifference(seen, wanted), undefined, `behind ${name} bytes: the file`);
    }
    await client.munmap({ map });
  },
);

guestTest(
  'a process that is killed while it makes a file longer stops, and what it wrote counts',
  async (t, guest) => {
    await using client = await guest.client();
    await using victim = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client);
    const { ecryptfs, fuse } = stack;
    const path = ecryptfs.file('f');
    const fd = await victim.open({ path, flags: 'O_RDWR|O_CREAT' });
    const hold = await fuse.hold('WRITE');
    // All of it is written, as zeros that are encrypted, a page at a time.
    const growing = victim.errno.ftruncate({ fd, length: 1000 * PAGE }).catch(() => 'ended');
    const first = await hold.arrived();
    await hold.stop();
    const death = victim.kill();
    await fuse.waitFor({ opcode: 'INTERRUPT', after: first.seq }, 'arrived');
    await hold.release(first);
    t.is((await death)?.signal, 'SIGKILL');
    t.is(await growing, 'ended');
    const written = await fuse.requests({ opcode: 'WRITE', after: first.seq - 1 });
    const pages = written.map(({ args }) => Number(args['offset'])).filter((at) => at >= HEADER_BYTES);
    t.deepEqual(pages, [HEADER_BYTES], 'pages that were written');
    t.is((await client.stat({ path })).size, PAGE, 'the size is that of the page which was written');
  },
);
