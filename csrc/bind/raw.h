#pragma once
// An op as Python calls it, past torch's dispatcher, which costs several times what a small kernel does:
// `genfast._C.raw.<op>(*args)` with the arguments of the registered op.
//
// It answers as that op does, with None for what there is nothing of; with `genfast._C.raw.GRADIENT` where a gradient
// is wanted; and with NotImplemented, untouched, where it is not for it to do: under modes, transforms, tracing and
// profiling, for subclasses of tensors, other devices, types of arguments it does not know, and for all that the op
// refuses.  The registered op does or refuses what is left, in its own words.
#include <Python.h>

#include <array>
#include <exception>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

#include "tensor.h"

namespace genfast {

class RawCall final : public Call {
 public:
  RawCall();
  ~RawCall();

  // Whether a raw call of this thread is the same as one through the dispatcher.
  static bool allowed();

  // Reads an argument of Python's; false where it is not one for a raw call.
  bool read(PyObject* object, Tensor& to);
  bool read(PyObject* object, Written& to);
  bool read(PyObject* object, int64_t& to);
  bool read(PyObject* object, double& to);
  bool read(PyObject* object, bool& to);
  bool read(PyObject* object, ScalarType& to);
  template <class T>
  bool read(PyObject* object, std::vector<T>& to) {
    if (!PyTuple_Check(object) && !PyList_Check(object)) return false;
    PyObject** items = PySequence_Fast_ITEMS(object);
    to.resize(size_t(PySequence_Fast_GET_SIZE(object)));
    for (size_t i = 0; i < to.size(); ++i)
      if (!read(items[i], to[i])) return false;
    return true;
  }
  template <class T>
  bool read(PyObject* object, std::optional<T>& to) {
    if (object == Py_None) return true;
    return read(object, to.emplace());
  }

  bool wants_gradient() const { return wants_gradient_; }
  // Tells autograd of what was written to.  False with Python's error set.
  bool count_versions();

  Tensor make(const Tensor& like, Sizes sizes, ScalarType type, MemoryFormat format) override;
  void zero_on_device(const Tensor& made) override;
  void unlock() override { thread_ = PyEval_SaveThread(); }
  void lock() override { PyEval_RestoreThread(thread_); }

  PyObject* give(const Tensor& made);  // a new reference
  template <class... T>
  PyObject* give(const std::tuple<T...>& made) {
    PyObject* answer = PyTuple_New(sizeof...(T));
    Py_ssize_t at = 0;
    if (answer) std::apply([&](const T&... one) { (PyTuple_SET_ITEM(answer, at++, give(one)), ...); }, made);
    return answer;
  }

 private:
  bool view(PyObject* object, Tensor& to);

  std::array<PyObject*, 8> made_;
  std::vector<PyObject*> written_;
  size_t made_count_ = 0;
  bool recording_, wants_gradient_ = false;
  PyThreadState* thread_ = nullptr;
};

PyObject* gradient_wanted();  // a new reference to GRADIENT
PyObject* wrong_count(Py_ssize_t wanted, Py_ssize_t came);

// Of every op, for module.cpp to add to genfast._C.raw.
inline std::vector<PyMethodDef>& raw_ops() {
  static std::vector<PyMethodDef> ops;
  return ops;
}
bool add_raw_ops(PyObject* module);  // false with Python's error set

template <auto glue, class Signature = decltype(glue)>
struct Raw;
template <auto glue, class R, class... A>
struct Raw<glue, R (*)(A...)> {
  static PyObject* call(PyObject*, PyObject* const* args, Py_ssize_t count) {
    if (count != sizeof...(A)) return wrong_count(sizeof...(A), count);
    if (!RawCall::allowed()) Py_RETURN_NOTIMPLEMENTED;
    try {
      return run(args, std::index_sequence_for<A...>());
    } catch (const std::exception&) {
      PyErr_Clear();
      Py_RETURN_NOTIMPLEMENTED;
    }
  }

 private:
  template <size_t... at>
  static PyObject* run(PyObject* const* args, std::index_sequence<at...>) {
    RawCall call;
    std::tuple<A...> values;
    if (!(call.read(args[at], std::get<at>(values)) && ...)) Py_RETURN_NOTIMPLEMENTED;
    if (call.wants_gradient()) return gradient_wanted();
    if constexpr (std::is_void_v<R>) {
      std::apply(glue, std::move(values));
      if (!call.count_versions()) return nullptr;
      Py_RETURN_NONE;
    } else {
      return call.give(std::apply(glue, std::move(values)));
    }
  }
};

struct RawOp {
  RawOp(const char* name, PyObject* (*call)(PyObject*, PyObject* const*, Py_ssize_t)) {
    const auto function = reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(call));
    raw_ops().push_back({name, function, METH_FASTCALL, nullptr});
  }
};

}  // namespace genfast
