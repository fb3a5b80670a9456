// boost::interprocess::message_queue for Rust: the same calls, without exceptions and templates.

#include <boost/interprocess/ipc/message_queue.hpp>

#include <cstdio>
#include <memory>

using namespace boost::interprocess;

namespace {
// Runs what may throw; -2 stands for an exception, whose words go to standard error.
template <class Act>
long guarded(Act act) {
    try {
        return act();
    } catch (const std::exception &error) {
        std::fprintf(stderr, "boost message_queue: %s\n", error.what());
        return -2;
    }
}
} // namespace

extern "C" {

// A new queue of `count` messages of up to `size` bytes, or with a count of 0 one that is there; null on failure.
message_queue *hqq_boost_open(const char *name, size_t count, size_t size) {
    message_queue *queue = nullptr;
    guarded([&] {
        queue = count == 0 ? new message_queue(open_only, name) : new message_queue(create_only, name, count, size);
        return 0L;
    });
    return queue;
}

void hqq_boost_close(message_queue *queue) { delete queue; }

// 1 if there was such a queue.
long hqq_boost_remove(const char *name) { return message_queue::remove(name) ? 1 : 0; }

// 0, or -1 if the queue is full and `block` is 0.
long hqq_boost_send(message_queue *queue, const void *bytes, size_t size, int block) {
    return guarded([&] {
        if (block != 0) {
            queue->send(bytes, size, 0);
            return 0L;
        }
        return queue->try_send(bytes, size, 0) ? 0L : -1L;
    });
}

// The message's size, or -1 if the queue is empty and `block` is 0.
long hqq_boost_recv(message_queue *queue, void *bytes, size_t size, int block) {
    return guarded([&] {
        message_queue::size_type received = 0;
        unsigned int priority = 0;
        if (block != 0) {
            queue->receive(bytes, size, received, priority);
            return static_cast<long>(received);
        }
        return queue->try_receive(bytes, size, received, priority) ? static_cast<long>(received) : -1L;
    });
}
}
