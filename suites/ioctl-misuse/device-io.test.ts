import { concat, firstDifference, pattern } from '../lib/bytes.ts';
import { DEVICE_MOST, DeviceServer, needsDevices } from '../lib/device-server.ts';
import { u32 } from '../lib/entry-answer.ts';
import { guestTest } from '../lib/guest-test.ts';

/** read(2) and write(2) of a character device whose server is in user space (CUSE): no page cache, no position. */

/** include/uapi/linux/fuse.h */
const [READ, WRITE] = [15, 16];
/** Of `fuse_read_in` and `fuse_write_in`. Bytes. */
const ARGS = 40;
const PAGE = 4096;

interface Asked {
  readonly offset: number;
  readonly size: number;
  readonly data: Uint8Array;
}

function asked(args: Uint8Array): Asked {
  const view = new DataView(args.buffer, args.byteOffset, args.byteLength);
  return {
    offset: Number(view.getBigUint64(8, true)),
    size: view.getUint32(16, true),
    data: args.slice(ARGS),
  };
}

/** `fuse_write_out`. */
function written(bytes: number): Uint8Array {
  return concat(u32(bytes), u32(0));
}

guestTest(
  'every read of a device begins at 0, is cut into what its server can take, and ends where that has no more',
  async (t, guest) => {
    await needsDevices(guest);
    await using client = await guest.client();
    await using server = await DeviceServer.start(guest);
    const fd = await server.open(client);
    const contents = pattern(2 * DEVICE_MOST, 3);
    for (const [what, there, sizes] of [
      ['all of it', 2 * DEVICE_MOST, [DEVICE_MOST, DEVICE_MOST]],
      ['the same again', 2 * DEVICE_MOST, [DEVICE_MOST, DEVICE_MOST]],
      ['less than was asked for', DEVICE_MOST + 5, [DEVICE_MOST, DEVICE_MOST]],
      ['much less', 7, [DEVICE_MOST]],
      ['nothing', 0, [DEVICE_MOST]],
    ] as const) {
      const reading = client.read({ fd, count: 2 * DEVICE_MOST });
      const requests: Asked[] = [];
      for (const _size of sizes) {
        await server.answer(READ, (args) => {
          const request = asked(args);
          requests.push(request);
          return contents.subarray(0, there).subarray(request.offset, request.offset + request.size);
        });
      }
      t.is(firstDifference(await reading, contents.subarray(0, there)), undefined, what);
      t.deepEqual(
        requests.map(({ offset, size }) => [offset, size]),
        sizes.map((size, nth) => [nth * DEVICE_MOST, size]),
        what,
      );
    }
    await server.close(client, fd);
  },
);

guestTest(
  'every write to a device begins at 0, comes in what its server can take, and ends where that took less',
  async (t, guest) => {
    await needsDevices(guest);
    await using client = await guest.client();
    await using server = await DeviceServer.start(guest);
    const fd = await server.open(client);
    const data = pattern(DEVICE_MOST + 100, 5);
    for (const [what, takes] of [
      ['all of it', [DEVICE_MOST, 100]],
      ['the same again', [DEVICE_MOST, 100]],
      ['a part of the second request', [DEVICE_MOST, 40]],
      ['a part of the first', [300]],
    ] as const) {
      const writing = client.write({ fd, data });
      const requests: Asked[] = [];
      for (const take of takes) {
        await server.answer(WRITE, (args) => {
          requests.push(asked(args));
          return written(take);
        });
      }
      const sum = takes.reduce((all: number, take) => all + take, 0);
      t.is(await writing, sum, what);
      t.deepEqual(
        requests.map(({ offset, size }) => [offset, size]),
        takes.map((_take, nth) => [nth * DEVICE_MOST, nth === 0 ? DEVICE_MOST : 100]),
        what,
      );
      const came = concat(...requests.map((request) => request.data));
      t.is(firstDifference(came, data.subarray(0, came.length)), undefined, `${what}: the data`);
    }
    await server.close(client, fd);
  },
);

guestTest(
  'reads and writes of a device are cut into what its server can take of each, a page at least',
  async (t, guest) => {
    await needsDevices(guest);
    await using client = await guest.client();
    for (const { maxRead, maxWrite, reads, writes } of [
      { maxRead: 3 * PAGE, maxWrite: 2 * PAGE, reads: [3 * PAGE, 100], writes: [2 * PAGE, PAGE + 100] },
      { maxRead: 2 * PAGE, maxWrite: 4 * PAGE, reads: [2 * PAGE, PAGE + 100], writes: [3 * PAGE + 100] },
      { maxRead: 100, maxWrite: 0, reads: [PAGE, PAGE, PAGE, 100], writes: [PAGE, PAGE, PAGE, 100] },
    ]) {
      await using server = await DeviceServer.start(guest, { maxRead, maxWrite });
      const fd = await server.open(client);
      const what = `max_read ${maxRead}, max_write ${maxWrite}`;
      const data = pattern(3 * PAGE + 100, 9);
      const read: Asked[] = [];
      const wrote: Asked[] = [];
      const reading = client.read({ fd, count: data.length });
      for (const _size of reads) {
        await server.answer(READ, (args) => {
          const request = asked(args);
          read.push(request);
          return data.subarray(request.offset, request.offset + request.size);
        });
      }
      t.is(firstDifference(await reading, data), undefined, `${what}: what is read`);
      t.deepEqual(
        read.map(({ size }) => size),
        reads,
        `${what}: reads`,
      );
      const writing = client.write({ fd, data });
      for (const size of writes) {
        await server.answer(WRITE, (args) => {
          wrote.push(asked(args));
          return written(size);
        });
      }
      t.is(await writing, data.length, `${what}: how much is written`);
      t.deepEqual(
        wrote.map(({ size }) => size),
        writes,
        `${what}: writes`,
      );
      await server.close(client, fd);
    }
  },
);

guestTest('a device has no position, whatever its callers say', async (t, guest) => {
  await needsDevices(guest);
  await using client = await guest.client();
  await using server = await DeviceServer.start(guest);
  const fd = await server.open(client);
  t.is(await client.lseek({ fd, offset: 50, whence: 'SEEK_SET' }), 0, 'a seek leads nowhere');
  const calls = {
    'a read after a seek': [READ, () => client.read({ fd, count: 10 })],
    'a read from 100 on': [READ, () => client.pread({ fd, count: 10, offset: 100 })],
    'a write from 100 on': [WRITE, () => client.pwrite({ fd, data: pattern(10), offset: 100 })],
  } as const;
  for (const [what, [opcode, call]] of Object.entries(calls)) {
    const calling = call();
    let offset = -1;
    await server.answer(opcode, (args) => {
      ({ offset } = asked(args));
      return opcode === READ ? pattern(10) : written(10);
    });
    t.is(offset, 0, `${what}: where the server is asked to begin`);
    await calling;
  }
  await server.close(client, fd);
});
