import test from 'ava';
import { beforeDeadline } from './deadline.ts';

const never = new Promise<never>(() => undefined);

test('deadline: work that is done in time gives its value or its error', async (t) => {
  t.is(await beforeDeadline(Promise.resolve(1), 60_000, () => 2), 1);
  await t.throwsAsync(
    beforeDeadline(Promise.reject(new Error('broke')), 60_000, () => 2),
    { message: 'broke' },
  );
});

test('deadline: what is late gives the other value, or throws', async (t) => {
  t.is(await beforeDeadline(never, 1, () => 2), 2);
  const late = (): never => {
    throw new Error('too late');
  };
  await t.throwsAsync(beforeDeadline(never, 1, late), { message: 'too late' });
});

test('deadline: an error that comes after it is no accident', async (t) => {
  const { promise, reject } = Promise.withResolvers<number>();
  t.is(await beforeDeadline(promise, 1, () => 2), 2);
  reject(new Error('nobody listens'));
  // An unhandled rejection would end the test process.
  await new Promise((resolve) => setImmediate(resolve));
});
